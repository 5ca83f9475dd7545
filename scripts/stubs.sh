#!/usr/bin/env bash
# Writes python/sentry/_native.pyi, the types of the extension, as its sources have them; with --check, fails on a difference.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stubs=python/sentry/_native.pyi
out=target/stubs
rm -rf "$out"
PATH=$PWD/.venv/bin:$PATH .venv/bin/maturin generate-stubs --quiet --out "$out"
made=$out/sentry/_native.pyi
if [ "${1:-}" = --check ]; then
  if ! diff -u "$stubs" "$made"; then
    echo "error: $stubs is not what the sources have" >&2
    echo "hint: make stubs" >&2
    exit 1
  fi
else
  cp "$made" "$stubs"
fi
