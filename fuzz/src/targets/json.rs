//! Strict JSON against the plain parser: what is accepted means the same there, and a repeated key is nowhere.

use sentry_manifest::json;
use serde_json::Value;

pub fn run(data: &[u8]) -> bool {
    let Ok(strict) = json::parse::<Value>(data) else { return false };
    let plain: Value = serde_json::from_slice(data).expect("strict JSON is JSON");
    assert_eq!(strict, plain);
    // The plain parser keeps one of two equal keys, so a repeated key would make the document shorter.
    let text = std::str::from_utf8(data).expect("strict JSON is UTF-8");
    assert_eq!(keys(&strict), members(text), "every key of the text is a key of the value");
    assert!(depth(&strict) <= sentry_manifest::limits::MAX_JSON_DEPTH);
    true
}

/// The number of keys of a value, inner ones included.
fn keys(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(keys).sum::<usize>(),
        Value::Array(items) => items.iter().map(keys).sum(),
        _ => 0,
    }
}

/// The number of members of all objects of a text: its colons outside of strings.
fn members(text: &str) -> usize {
    let (mut colons, mut inside, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => colons += 1,
            _ => {}
        }
    }
    colons
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
