//! Records of samples: what is read says the same as what is written.

use sentry_manifest::record::{Kind, ParsedBody, ParsedField, ParsedValue, parse};

pub fn run(data: &[u8]) -> bool {
    let Ok(fields) = parse(data) else { return false };
    let mut written = Vec::new();
    write(&mut written, &fields);
    assert_eq!(written, data, "a record has one encoding");
    true
}

fn write(record: &mut Vec<u8>, fields: &[ParsedField<'_>]) {
    for field in fields {
        text(record, field.name);
        value(record, &field.value);
    }
}

/// An encoder of its own: the project's wants the bytes of a value, and a record may have only their digest.
fn value(record: &mut Vec<u8>, value: &ParsedValue<'_>) {
    text(record, value.kind.name());
    assert_eq!(Kind::from_name(value.kind.name()), Some(value.kind));
    record.extend((value.shape.len() as u32).to_le_bytes());
    record.extend(value.shape.iter().flat_map(|dim| dim.to_le_bytes()));
    record.extend(value.length.to_le_bytes());
    let start = record.len();
    match &value.body {
        ParsedBody::Bytes(bytes) => record.extend_from_slice(bytes),
        ParsedBody::Fields(fields) => write(record, fields),
        ParsedBody::Values(values) => values.iter().for_each(|inner| self::value(record, inner)),
        ParsedBody::Digest(digest) => {
            assert!(value.length > 64);
            return record.extend_from_slice(&digest[..]);
        }
    }
    assert_eq!((record.len() - start) as u64, value.length);
}

fn text(record: &mut Vec<u8>, text: &str) {
    record.extend((text.len() as u32).to_le_bytes());
    record.extend_from_slice(text.as_bytes());
}
