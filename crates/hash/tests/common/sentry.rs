//! The vectors that `reference/` makes: `vectors/sentry/*.json`.

#[allow(clippy::duplicate_mod, reason = "each of the files is used alone as well")]
#[path = "repository.rs"]
mod repository;

use serde_json::Value;

/// One of the files, by its name without the ending.
pub fn file(name: &str) -> Value {
    let path = repository::root().join("vectors/sentry").join(name).with_extension("json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// A list that must have this many items, so that a file that was cut fails.
pub fn list(value: &Value, count: usize) -> &[Value] {
    let items = value.as_array().expect("a list");
    assert_eq!(items.len(), count);
    items
}

/// Text.
pub fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
