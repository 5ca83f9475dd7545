//! The libFuzzer program of all targets; the environment variable `SENTRY_FUZZ_TARGET` says which one runs.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let name = std::env::var("SENTRY_FUZZ_TARGET").expect("SENTRY_FUZZ_TARGET names a target");
    sentry_fuzz::target(&name).unwrap_or_else(|| panic!("no target is named {name:?}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    TARGET(data);
});
