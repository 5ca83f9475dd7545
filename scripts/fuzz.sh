#!/usr/bin/env bash
# The long run of the fuzz targets, on stable Rust: libFuzzer with LLVM's coverage instrumentation.
#
#   scripts/fuzz.sh [--seconds N] [--jobs N] [--out FILE] [TARGET]...
#
# N seconds in all (default 600), shared evenly by the targets (default: all), one for each core at a time. What is
# found besides lies under target/fuzz-corpus. Prints a table; exits with 1 on a finding, and says where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=600 jobs=$(nproc) out= targets=()
while [ $# != 0 ]; do
  case $1 in
    --seconds) seconds=$2 && shift 2 ;;
    --jobs) jobs=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    -*) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
    *) targets+=("$1") && shift ;;
  esac
done
if [ ${#targets[@]} = 0 ]; then
  mapfile -t targets < <(sed -nE 's/^    \("([a-z0-9_]+)", targets::.*/\1/p' fuzz/src/lib.rs)
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# Counters at every edge and the operands of comparisons, as libFuzzer wants them; all of it is in stable compilers.
# Overflows and debug assertions are findings too.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 --cfg fuzzing" \
  cargo build --locked --release --config 'profile.release.lto=false' --target "$host" --target-dir target/fuzz \
  -p sentry-ml-fuzz --features libfuzzer
program=target/fuzz/$host/release/sentry-fuzz

share=$((seconds / ${#targets[@]}))
[ "$share" -gt 0 ] || share=1
logs=target/fuzz-logs
mkdir -p "$logs"

# The longest input that makes sense for a target.
max_len() {
  case $1 in
    bundle | statement | safetensors | json) echo 16384 ;;
    table | sha256) echo 8192 ;;
    *) echo 2048 ;;
  esac
}

fuzz_one() {
  local target=$1 found=target/fuzz-corpus/$1 dictionary=()
  mkdir -p "$found" "target/fuzz-findings/$target"
  if [ -e "fuzz/dictionaries/$target.dict" ]; then dictionary=("-dict=fuzz/dictionaries/$target.dict"); fi
  SENTRY_FUZZ_TARGET=$target "$program" -max_total_time="$share" -max_len="$(max_len "$target")" -timeout=10 \
    -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="target/fuzz-findings/$target/" "${dictionary[@]}" \
    "$found" "fuzz/corpus/$target" >"$logs/$target.log" 2>&1
}

export -f fuzz_one max_len
export program share logs
status=0
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I{} bash -c 'fuzz_one {}' || status=1

table() {
  echo '| target | seconds | executions | a second | edges covered | inputs kept | findings |'
  echo '|---|---:|---:|---:|---:|---:|---:|'
  local target log runs covered kept found total=0
  for target in "${targets[@]}"; do
    log=$logs/$target.log
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)
    kept=$(grep -oE 'corp: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)
    found=$(find "target/fuzz-findings/$target" -type f | wc -l)
    echo "| $target | $share | ${runs:-?} | $((${runs:-0} / share)) | ${covered:-?} | ${kept:-?} | $found |"
    total=$((total + ${runs:-0}))
  done
  echo "| all | $((share * ${#targets[@]})) | $total | | | | $(find target/fuzz-findings -type f | wc -l) |"
}
table
if [ -n "$out" ]; then table >"$out"; fi
if [ "$status" != 0 ]; then
  find target/fuzz-findings -type f | sed 's/^/finding: /'
  echo 'hint: copy the input to fuzz/regressions/TARGET/ and run: cargo test -p sentry-ml-fuzz' >&2
fi
exit "$status"
