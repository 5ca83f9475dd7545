//! Sigstore bundles, DSSE envelopes and in-toto statements as pure data: parse and print.
//!
//! ```text
//! bundle (JSON file) ─► verification material + envelope ─► payload bytes ─► statement ─► manifest
//! ```
//!
//! Nothing here checks a signature. [`Bundle::parse`] stops at the payload's raw bytes, because the signature
//! is over those; [`Statement::parse`] is for whoever has checked it. Parsing is strict: every field that is
//! read is required to be what the format says, a key must not occur twice, and base64 has one spelling.
//!
//! ```
//! use sentry_bundle::{Bundle, pae};
//!
//! let json = std::fs::read("../../vectors/oms/spec/valid/key.bundle.json")?;
//! let bundle = Bundle::parse(&json)?;
//! assert!(pae(&bundle.payload).as_bytes().starts_with(b"DSSEv1 28 application/vnd.in-toto+json "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod base64;
mod bundle;
mod dataset;
mod dsse;
mod error;
mod in_toto;
pub mod limits;
mod statement;
mod tensors;
pub mod uris;

pub use bundle::{Bundle, Material, PublicKeyMaterial};
pub use dataset::DatasetStatement;
pub use dsse::{PaeBytes, pae};
pub use error::BundleError;
pub use in_toto::predicate_type;
pub use statement::Statement;
pub use tensors::TensorsStatement;
