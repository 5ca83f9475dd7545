//! Fuzz targets: functions that take any bytes and panic on a finding.
//!
//! The same functions run twice: `cargo test` replays the inputs kept under `corpus/` and `regressions/` on stable Rust,
//! and `scripts/fuzz.sh` (`make fuzz`) lets libFuzzer look for new ones. Each returns whether the bytes got through the
//! parser, so that the replay can see that its corpus reaches what lies behind.

#![forbid(unsafe_code)]

mod input;
mod targets;

/// A target: its name, and the function.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets. A folder of `corpus/` has the name of its target.
pub const TARGETS: [Target; 16] = [
    ("bundle", targets::bundle::run),
    ("statement", targets::statement::run),
    ("json", targets::json::run),
    ("names", targets::names::run),
    ("safetensors", targets::safetensors::run),
    ("public_key", targets::keys::public),
    ("private_key", targets::keys::private),
    ("signature", targets::keys::signature),
    ("certificate", targets::certificate::chain),
    ("timestamp", targets::certificate::timestamp),
    ("policy", targets::policy::run),
    ("record", targets::record::run),
    ("table", targets::table::run),
    ("lattice", targets::lattice::run),
    ("tree", targets::tree::run),
    ("sha256", targets::sha256::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8]) -> bool> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|&(_, run)| run)
}
