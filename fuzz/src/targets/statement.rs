//! Statements about files, tensors and datasets: what is read is written, and the second reading is the first.

use std::fmt::Debug;

use sentry_bundle::uris::{DATASET_V1, TENSORS_V1};
use sentry_bundle::{BundleError, DatasetStatement, Statement, TensorsStatement, predicate_type};

pub fn run(data: &[u8]) -> bool {
    let kind = predicate_type(data).unwrap_or_default();
    assert!(usize::from(Statement::parse(data).is_ok()) + usize::from(kind == TENSORS_V1) + usize::from(kind == DATASET_V1) < 2);
    match kind.as_str() {
        TENSORS_V1 => read_and_written(data, TensorsStatement::parse, TensorsStatement::to_payload),
        DATASET_V1 => read_and_written(data, DatasetStatement::parse, DatasetStatement::to_payload),
        _ => read_and_written(data, Statement::parse, Statement::to_payload),
    }
}

fn read_and_written<S: PartialEq + Debug>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<S, BundleError>,
    write: impl Fn(&S) -> Vec<u8>,
) -> bool {
    let parsed = parse(data).or_else(|error| match error {
        // No fuzzer finds the digest of what it has changed: put it in, and what lies behind is reached.
        BundleError::RootMismatch { expected, found } | BundleError::SubjectDigest { expected, found } => {
            parse(std::str::from_utf8(data).expect("a statement is UTF-8").replacen(&expected, &found, 1).as_bytes())
        }
        error => Err(error),
    });
    let Ok(statement) = parsed else { return false };
    assert_eq!(parse(&write(&statement)).expect("what is written is read"), statement);
    true
}
