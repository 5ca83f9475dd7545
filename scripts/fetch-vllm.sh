#!/usr/bin/env bash
# Puts the Python files of vLLM and the libraries that they import into .cache/vllm, once (357 MB are downloaded, 160 MB kept); prints the
# folder, which is to be on PYTHONPATH. vLLM's compiled parts, which need another version of torch, are left out.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
cache=$root/.cache/vllm
# What was downloaded, and by which Python: some of the libraries are compiled for one version.
made_of=$({ cat "$root/scripts/vllm-requirements.txt" "$root/scripts/vllm-libraries.txt"; "$python" -VV; } | sha256sum)

if [ "$(cat "$cache/complete" 2>/dev/null)" != "$made_of" ]; then
  echo "Downloading vLLM (357 MB; its Python files are kept in .cache/vllm)." >&2
  rm -rf "$cache"
  mkdir -p "$cache/download"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --target "$cache/packages" --requirement "$root/scripts/vllm-libraries.txt" >&2
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --dest "$cache/download" --requirement "$root/scripts/vllm-requirements.txt" >&2
  "$python" - "$cache" >&2 <<'EOF'
import pathlib, sys, zipfile

cache = pathlib.Path(sys.argv[1])
(wheel,) = (cache / "download").glob("vllm-*.whl")
with zipfile.ZipFile(wheel) as archive:
    names = [name for name in archive.namelist() if name.endswith((".py", ".json")) or ".dist-info/" in name]
    archive.extractall(cache / "packages", names)
EOF
  rm -rf "$cache/download"
  echo "$made_of" >"$cache/complete"
fi
echo "$cache/packages"
