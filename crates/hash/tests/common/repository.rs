//! Where the files of this repository are.

use std::env;
use std::path::PathBuf;

/// The repository's root: as cargo says when it runs a test, or, on a machine without cargo, as whoever runs it says.
pub fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.join("../..")
}
