#!/usr/bin/env bash
# What needs a GPU: `make gpu` runs tests and benches, `make gpu-load` those of loading, `make gpu-sanitize` the tests under
# compute-sanitizer's four tools.
#
# The programs are built where cargo is, into target/gpu (`make gpu-build`); a GPU machine without it needs that folder, a driver,
# nvcc, and a Python with torch, torchvision, transformers, safetensors and pytest. Logs: target/gpu/logs, or $OUT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
built=target/gpu
logs=${OUT:-$built/logs}
# CEILING is a program of plain kernels to be held against, if there is one.
cuda="make --no-print-directory -C crates/cuda BUILD=$PWD/$built/cuda CEILING=${CEILING:+$(realpath "$CEILING")}"
failed=0
# Tests that tell the driver how to fail are for the emulated one.
no_faults=(--skip work_that_is --skip what_an_earlier --skip every_call --skip after_an_error --skip a_fault --skip what_is_made)

build() {
  rm -rf "$built"/{bin,wheel}
  mkdir -p "$built"/{bin,wheel}
  cargo build --release --locked -p sentry-ml-cli
  cp target/release/sentry "$built/bin/"
  build_tests sentry-ml-cuda
  build_tests sentry-ml-load load-
  cargo build --release --locked -p sentry-ml-load --features unhashed --example hashing_cost
  cp target/release/examples/hashing_cost "$built/bin/"
  strip "$built"/bin/*
  .venv/bin/maturin build --quiet --release --locked --out "$built/wheel"
}

# The test programs of a package; a second word is a prefix for their names.
build_tests() {
  local message='^  Executable (tests/)?[a-z/]+\.rs \((.*)\)$'
  cargo test --release --locked -p "$1" --features device-tests --no-run 2>&1 | tee /dev/stderr |
    sed -nE "s#$message#\2#p" | while read -r program; do
      name=$(basename "$program")
      cp "$program" "$built/bin/${2:-}${name%-*}-test"
    done
}

# Runs a part, keeps its output, and goes on after a failure.
part() {
  local name=$1 began=$SECONDS verdict=ok
  shift
  printf '\n==> %s\n' "$name" | tee -a "$log"
  "$@" 2>&1 | tee -a "$log" || verdict=FAILED failed=1
  printf '==> %s: %s, %d s\n' "$name" "$verdict" $((SECONDS - began)) | tee -a "$log"
}

prepare() {
  if command -v cargo >/dev/null; then make --no-print-directory gpu-build; fi
  if ! ls "$built"/wheel/*.whl >/dev/null 2>&1; then
    echo "error: $built has no wheel, and there is no cargo to build one" >&2
    exit 2
  fi
  mkdir -p "$logs"
  : >"$log"
  python3 -m pip install --quiet --no-index --no-deps --upgrade --target "$built/site" "$built"/wheel/*.whl
  export PYTHONPATH=$PWD/$built/site PYTHONDONTWRITEBYTECODE=1 SENTRY_BIN=$PWD/$built/bin/sentry CARGO_MANIFEST_DIR=$PWD/crates/cuda
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader | tee -a "$log"
}

run() {
  # Compiled by another core meanwhile.
  ($cuda -j2 check-program bench-programs >"$logs/nvcc.txt" 2>&1) &
  local nvcc=$!
  part device env SENTRY_DEVICE_CASES=10000 "$built/bin/device-test"
  part samples "$built/bin/samples-test" "${no_faults[@]}"
  part python python3 -m pytest -q -p no:cacheprovider tests/gpu
  wait "$nvcc" || { cat "$logs/nvcc.txt"; failed=1; }
  part kernels $cuda check
  part ceilings-and-kernels $cuda bench
  part bench-64-gib "$built/bin/sentry" bench gpu --largest $((64 << 30)) --runs 7
  part from-python python3 benches/gpu.py
}

# Loading: its tests; then it beside others that are installed, beside itself without hashing, and beside plain copies (LOAD_CEILING names
# a program for that, to be compiled). LOAD_FOLDERS are where models go: the first one in memory, the others on disks.
load() {
  local folders=() folder ceiling=$built/cuda/load_ceiling
  for folder in ${LOAD_FOLDERS:-/dev/shm/sentry-loading $PWD/$built/loading}; do
    mkdir -p "$folder"
    folders+=(--folder "$folder")
  done
  part load-device "$built/bin/load-device-test"
  part load-cores "$built/bin/load-cores-test"
  part python-loading python3 -m pytest -q -p no:cacheprovider tests/gpu/test_loading.py tests/gpu/test_reads_that_fail.py
  if [ -n "${LOAD_CEILING:-}" ]; then
    mkdir -p "$built/cuda"
    nvcc -O3 -arch=native -o "$ceiling" "$LOAD_CEILING" 2>"$logs/nvcc.txt" || { cat "$logs/nvcc.txt"; exit 1; }
    part load-ceiling "$ceiling" "${folders[1]}/ceiling" 8 "in memory"
  fi
  export SENTRY_HASHING_COST=$PWD/$built/bin/hashing_cost
  part loading python3 benches/loading_gpu.py "${folders[@]}" ${LOAD_SIGNATURE:+--signature "$LOAD_SIGNATURE" --public "$LOAD_PUBLIC"}
  for folder in "${folders[@]}"; do [ "$folder" = --folder ] || rm -rf "$folder"; done
}

sanitize() {
  ($cuda check-program >"$logs/nvcc.txt" 2>&1) || { cat "$logs/nvcc.txt"; exit 1; }
  for tool in memcheck racecheck initcheck synccheck; do
    part "$tool-kernels" timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 "$built/cuda/check" quick
    part "$tool-device" env SENTRY_DEVICE_CASES=20 timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$built/bin/device-test" --test-threads=1 --skip published_vectors
    part "$tool-loading" timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 "$built/bin/load-device-test" --test-threads=1
    part "$tool-samples" timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$built/bin/samples-test" --test-threads=1 "${no_faults[@]}"
  done
}

case ${1:-} in
  build) build ;;
  run | load | sanitize)
    log=$logs/$1.txt
    prepare
    "$1"
    exit "$failed"
    ;;
  *)
    echo "usage: scripts/gpu.sh build | run | load | sanitize" >&2
    exit 2
    ;;
esac
