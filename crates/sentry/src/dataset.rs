//! Datasets: signing their samples, verifying them in files, and getting ready to check them one by one.
//!
//! A dataset's signature has side files, its sample tables, which lie beside it. They are written before the signature that names them, and
//! old ones are removed after it, so that at any moment the signature and its tables belong together.

mod sign;
mod tables;
mod update;
mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use sign::{DatasetSignOptions, SignedDataset, read_contributor, sign_dataset, sign_samples};
pub use update::{Changes, update_dataset};
pub use verify::{DatasetVerifyOptions, VerifiedDataset, diff_dataset, open_samples, verify_dataset};

/// Name of a dataset's signature inside its folder.
const SIGNATURE_NAME: &str = "dataset.sig";

/// What the names of sample tables end in.
const TABLE_SUFFIX: &str = ".samples";

/// Where the signature of a dataset lies unless its user says otherwise: `dataset.sig` inside a folder, `NAME.sig` beside a single file.
pub fn default_dataset_signature_path(dataset: &Path) -> PathBuf {
    if dataset.is_dir() {
        return dataset.join(SIGNATURE_NAME);
    }
    let mut name = dataset.file_name().map(OsString::from).unwrap_or_default();
    name.push(".sig");
    dataset.with_file_name(name)
}

/// The folder that a signature lies in.
fn folder_of(signature: &Path) -> &Path {
    signature.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
