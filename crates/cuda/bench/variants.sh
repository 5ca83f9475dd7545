#!/usr/bin/env bash
# Builds and times the kernels in several settings, one line of `label flags` each on standard input: `variants.sh BUILD CEILING.txt`.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 ceiling=$2
mkdir -p "$build"
list=$(cat)
while read -r label flags; do
    # shellcheck disable=SC2086
    eval "${NVCC:-nvcc} -std=c++17 -O3 -arch=sm_90 $flags bench/bench.cu -o $build/bench_$label" &
done <<<"$list"
wait
while read -r label flags; do
    echo "## $label $flags"
    "$build/bench_$label" --short --label "$label" --ceiling "$ceiling"
done <<<"$list"
