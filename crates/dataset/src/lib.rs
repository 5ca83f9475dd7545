//! From the samples of a dataset, in files or in memory, to their digests.
//!
//! ```text
//! files ─Dataset::open─► parts of files ─a thread each─► rows of columns ─► records ─► digests, by source and id ─► MeasuredDataset
//!                                         memory ─Columns, Samples──────┘
//! ```
//!
//! A sample's record is made of what is *stored*: encoded images, text, arrays, before anything is decoded
//! (`docs/spec/samples.md`). Nothing here knows about keys or signatures: what is measured counts only once the crate
//! `sentry-ml-trust` has compared it with a signed statement.

#![forbid(unsafe_code)]

mod columns;
mod error;
mod field_type;
pub mod files;
mod samples;
mod stream;

pub use columns::{Columns, Row};
pub use error::DatasetError;
pub use field_type::FieldType;
pub use samples::{FieldValues, Samples};
pub use stream::read_stream;
