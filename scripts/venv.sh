#!/usr/bin/env bash
# Makes .venv, an empty Python environment (3.11 or newer) for the tests, the demo and the benches.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suitable() {
  command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
  if suitable "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "error: no Python 3.11 or newer found" >&2
  echo "hint: install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
  exit 1
fi

# Debian keeps the part that puts pip into a new environment in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" </dev/null
  else
    echo "error: $python cannot make virtual environments" >&2
    echo "hint: install the package $package" >&2
    exit 1
  fi
fi

rm -rf .venv
"$python" -m venv .venv
