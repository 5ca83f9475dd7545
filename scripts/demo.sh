#!/usr/bin/env bash
# `make demo`: sign a real model, verify it, change one byte of its weights, and see what happens.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
cache=$root/.cache/demo
work=$cache/work
PATH=$root/target/release:$PATH
export PYTHONDONTWRITEBYTECODE=1

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '\n%s\n' "$*"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }
run() {
  show "$@"
  "$@" </dev/null
}
fail() {
  printf '\ndemo: FAILED: %s\n' "$*" >&2
  exit 1
}

model=$("$root/scripts/fetch-model.sh")

rm -rf "$work"
mkdir -p "$work"
cp -r "$model" "$work/all-MiniLM-L6-v2"
cd "$work"
sentry_version=$(sentry --version)

say "This is $sentry_version. The model is a folder with its weights and the files around them:"
run ls -l all-MiniLM-L6-v2

say "1. The publisher makes a key pair, once. sentry.key stays secret, sentry.pub goes to everybody."
run sentry keygen

say "2. The publisher signs the model. The signature is one file, model.sig, inside the folder."
run sentry sign all-MiniLM-L6-v2 --key sentry.key

say "3. Whoever has the public key can verify the model."
run sentry verify all-MiniLM-L6-v2 --key sentry.pub

say "4. What does the signature say? (This looks, it trusts nobody.)"
run sentry inspect all-MiniLM-L6-v2/model.sig

say "5. In Python: load it verified into transformers' BertModel, and embed two sentences."
show python demo_load.py all-MiniLM-L6-v2 sentry.pub
"$python" "$root/scripts/demo_load.py" all-MiniLM-L6-v2 sentry.pub </dev/null

say "6. Somebody changes one bit in the weights. Size and file name stay the same."
offset=60000000
show flip_byte.py all-MiniLM-L6-v2/model.safetensors $offset
tensor=$("$python" "$root/scripts/flip_byte.py" all-MiniLM-L6-v2/model.safetensors $offset)

say "7. The same command as in step 3 now rejects the model."
show sentry verify all-MiniLM-L6-v2 --key sentry.pub
status=0
sentry verify all-MiniLM-L6-v2 --key sentry.pub </dev/null 2>rejection.txt || status=$?
cat rejection.txt
[ "$status" = 1 ] || fail "the changed model gave exit code $status, not 1 (rejected)"
grep -qF "$tensor" rejection.txt || fail "the rejection does not name the changed tensor, $tensor"
printf '(exit code %s: rejected; the changed tensor is named)\n' "$status"

say "8. Python gets an exception and no model."
show python demo_load.py all-MiniLM-L6-v2 sentry.pub
status=0
"$python" "$root/scripts/demo_load.py" all-MiniLM-L6-v2 sentry.pub </dev/null 2>rejection.txt || status=$?
cat rejection.txt
[ "$status" = 1 ] || fail "loading the changed model gave exit code $status, not 1"
grep -qF 'ManifestError' rejection.txt && grep -qF "$tensor" rejection.txt || fail "the exception does not name the changed tensor, $tensor"

say "9. With the byte put back, the model verifies again."
show flip_byte.py all-MiniLM-L6-v2/model.safetensors $offset
"$python" "$root/scripts/flip_byte.py" all-MiniLM-L6-v2/model.safetensors $offset >/dev/null
run sentry verify all-MiniLM-L6-v2 --key sentry.pub

say "demo: ok. The model, the keys and the signature are in .cache/demo/work; the program is target/release/sentry."
