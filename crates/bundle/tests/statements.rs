//! Statements about tensors and datasets against the vectors of the slow reference.

use std::path::Path;

use sentry_bundle::uris::{DATASET_V1, TENSORS_V1};
use sentry_bundle::{BundleError, DatasetStatement, Statement, TensorsStatement, predicate_type};
use serde_json::Value;

fn vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/sentry/statements.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Reads a payload as what it says to be, and writes it again.
fn rewritten(payload: &[u8]) -> Result<Vec<u8>, BundleError> {
    match predicate_type(payload)?.as_str() {
        TENSORS_V1 => TensorsStatement::parse(payload).map(|statement| statement.to_payload()),
        DATASET_V1 => DatasetStatement::parse(payload).map(|statement| statement.to_payload()),
        _ => Statement::parse(payload).map(|statement| statement.to_payload()),
    }
}

#[test]
fn valid_statements_are_read_and_written() {
    let vectors = vectors();
    let valid = vectors["valid"].as_array().unwrap();
    assert_eq!(valid.len(), 4);
    for vector in valid {
        let payload = text(&vector["payload"]);
        let written = rewritten(payload.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", vector["what"]));
        let (written, read): (Value, Value) = (serde_json::from_slice(&written).unwrap(), serde_json::from_str(payload).unwrap());
        assert_eq!(written, read, "{}", vector["what"]);
        assert_eq!(written["subject"][0]["digest"]["sha256"], vector["subject_digest"], "{}", vector["what"]);
    }
}

#[test]
fn what_a_statement_says_is_read() {
    let vectors = vectors();
    let tensors = TensorsStatement::parse(text(&vectors["valid"][0]["payload"]).as_bytes()).unwrap();
    assert_eq!((tensors.subject.as_str(), tensors.version), ("tiny", Some(7)));
    let names: Vec<&str> = tensors.manifest().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["b.bias", "b.weight", "empty", "steps", "ω"]);
    let dataset = DatasetStatement::parse(text(&vectors["valid"][2]["payload"]).as_bytes()).unwrap().manifest;
    assert_eq!((dataset.name(), dataset.version(), dataset.whole().count()), ("digits", Some(3), 8));
    assert!(dataset.sources().iter().all(|source| source.table.is_some()));
    assert_eq!(dataset.digest().to_hex(), text(&vectors["valid"][2]["subject_digest"]));
}

#[test]
fn invalid_statements_are_refused() {
    let vectors = vectors();
    let invalid = vectors["invalid"].as_array().unwrap();
    assert_eq!(invalid.len(), 104);
    for vector in invalid {
        let (reason, payload) = (text(&vector["reason"]), text(&vector["payload"]).as_bytes());
        let as_what_it_should_be = match reason.split_once(':') {
            Some(("tensors", _)) => TensorsStatement::parse(payload).map(|_| ()),
            _ => DatasetStatement::parse(payload).map(|_| ()),
        };
        let error = as_what_it_should_be.expect_err(reason);
        assert!(rewritten(payload).is_err(), "{reason}");
        // Only those that are good but for it are given away by the digest.
        let stale =
            ["another digest", "left out", "another dtype", "another shape", "another state"].iter().any(|word| reason.ends_with(word));
        assert_eq!(matches!(error, BundleError::SubjectDigest { .. }), stale, "{reason}: {error}");
    }
}

/// One kind of statement never passes for another: the threat model's payload confusion.
#[test]
fn a_statement_of_one_kind_is_none_of_another() {
    let vectors = vectors();
    let payload = |index: usize| text(&vectors["valid"][index]["payload"]).as_bytes();
    let (tensors, dataset) = (payload(0), payload(2));
    let refused = |error: BundleError| assert_eq!(error.code(), "predicate_type");
    refused(Statement::parse(tensors).unwrap_err());
    refused(Statement::parse(dataset).unwrap_err());
    refused(TensorsStatement::parse(dataset).unwrap_err());
    refused(DatasetStatement::parse(tensors).unwrap_err());
}
