#!/usr/bin/env bash
# `make test`: all suites one after the other. One that fails does not hide the others; the last line sums up.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
logs=target/test-logs
mkdir -p "$logs"

passed=0 failed=0 skipped=0 broken=0
summary=()

# Adds up every "N WORD" of the lines on stdin: `count passed` of "3 passed, 1 failed" is 3.
count() {
  grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'
}

# The lines in which a suite closes. cargo prints one for each test binary, the others a single last one.
closing_lines() {
  sed -E 's/\x1b\[[0-9;]*m//g' "$2" |
    case $1 in
      test-rust) grep -E '^test result:' ;;
      kernels) grep -E '^test result:|^[0-9]+ passed, [0-9]+ failed' ;;
      *) grep -E '[0-9]+ (passed|failed|error)' | tail -n 1 ;;
    esac
}

run() {
  local target=$1 log=$logs/$1.log status=0 began=$SECONDS note=
  printf '\n==> make %s\n' "$target"
  make --no-print-directory "$target" </dev/null 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}

  if [ "$target" = lint ]; then
    note=$(grep -oE '^cargo deny: not run' "$log" || true)
  else
    local lines p f e s
    lines=$(closing_lines "$target" "$log")
    p=$(count passed <<<"$lines") f=$(count failed <<<"$lines") e=$(count error <<<"$lines")
    s=$(($(count skipped <<<"$lines") + $(count ignored <<<"$lines")))
    passed=$((passed + p)) failed=$((failed + f + e)) skipped=$((skipped + s))
    note="$p passed, $((f + e)) failed, $s skipped"
    # A suite that ran nothing has shown nothing.
    if [ "$p" = 0 ] && [ "$status" = 0 ]; then
      status=1 note="no test ran"
    fi
    if [ $((f + e)) != 0 ]; then status=1; fi
  fi
  local verdict=ok
  if [ "$status" != 0 ]; then
    verdict=FAILED broken=$((broken + 1))
    # A suite that broke off before it could count its failures is one.
    if [ "$target" = lint ] || [ $((f + e)) = 0 ]; then failed=$((failed + 1)); fi
  fi
  summary+=("$(printf '%-13s %-7s %4d s   %s' "$target" "$verdict" $((SECONDS - began)) "$note")")
}

run lint
run test-rust
run python
run reference
run attacks
run interop
run kernels
run modules-check

printf '\n'
printf '%s\n' "${summary[@]}"
printf 'total: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$broken" = 0 ]
