//! From a sample to its record.

use sentry_hash::Algorithm;

use super::{Field, Kind, MAX_INLINE, RecordError, Value};
use crate::limits::{MAX_DIMENSIONS, MAX_FIELDS, MAX_NAME_BYTES, MAX_RECORD_DEPTH};
use crate::printable;

/// The record of a sample with these fields, in any order.
///
/// # Errors
/// [`RecordError`]: a name that is empty, too long or there twice, a value whose bytes do not fit its type and shape, or
/// more than the limits allow.
pub fn encode(fields: &[Field<'_>]) -> Result<Vec<u8>, RecordError> {
    if fields.is_empty() {
        return Err(RecordError::NoFields);
    }
    let mut record = Vec::new();
    put_fields(&mut record, fields, 1)?;
    Ok(record)
}

fn put_fields(record: &mut Vec<u8>, fields: &[Field<'_>], depth: usize) -> Result<(), RecordError> {
    if fields.len() > MAX_FIELDS {
        return Err(RecordError::TooManyFields);
    }
    let mut sorted: Vec<&Field<'_>> = fields.iter().collect();
    sorted.sort_unstable_by_key(|field| field.name.as_bytes());
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(RecordError::RepeatedField { name: printable(pair[0].name) });
    }
    for field in sorted {
        if field.name.is_empty() || field.name.len() > MAX_NAME_BYTES {
            return Err(RecordError::FieldName { length: field.name.len() });
        }
        put_text(record, field.name);
        put_value(record, &field.value, depth)?;
    }
    Ok(())
}

fn put_value(record: &mut Vec<u8>, value: &Value<'_>, depth: usize) -> Result<(), RecordError> {
    if depth > MAX_RECORD_DEPTH {
        return Err(RecordError::TooDeep);
    }
    match value {
        Value::Tensor { dtype, shape, bytes } => put(record, Kind::Tensor(*dtype), shape, bytes),
        Value::Bool(truth) => put(record, Kind::number("BOOL"), &[], &[u8::from(*truth)]),
        Value::Integer(integer) => put(record, Kind::number("I64"), &[], &integer.to_le_bytes()),
        Value::Float(float) => put(record, Kind::number("F64"), &[], &float.to_le_bytes()),
        Value::Text(text) => put(record, Kind::Utf8, &[], text.as_bytes()),
        Value::Bytes(bytes) => put(record, Kind::Bytes, &[], bytes),
        Value::Null => put(record, Kind::Null, &[], &[]),
        Value::Struct(fields) => {
            let mut inner = Vec::new();
            put_fields(&mut inner, fields, depth + 1)?;
            put(record, Kind::Struct, &[], &inner)
        }
        Value::List(values) => {
            let mut inner = Vec::new();
            values.iter().try_for_each(|value| put_value(&mut inner, value, depth + 1))?;
            put(record, Kind::List, &[values.len() as u64], &inner)
        }
        Value::Hashed { kind, shape, length, digest } => put_hashed(record, *kind, shape, *length, digest),
    }
}

fn put(record: &mut Vec<u8>, kind: Kind, shape: &[u64], bytes: &[u8]) -> Result<(), RecordError> {
    let length = bytes.len() as u64;
    kind.check_bytes(bytes)?;
    if length > MAX_INLINE {
        let digest = Algorithm::Blake3.digest(bytes);
        return put_head(record, kind, shape, length).map(|()| record.extend_from_slice(digest.as_bytes()));
    }
    put_head(record, kind, shape, length)?;
    record.extend_from_slice(bytes);
    Ok(())
}

fn put_hashed(record: &mut Vec<u8>, kind: Kind, shape: &[u64], length: u64, digest: &[u8; 32]) -> Result<(), RecordError> {
    if length <= MAX_INLINE || matches!(kind, Kind::Struct | Kind::List) {
        return Err(RecordError::Shape { kind: kind.name(), shape: shape.to_vec(), length });
    }
    put_head(record, kind, shape, length)?;
    record.extend_from_slice(digest);
    Ok(())
}

/// All of a value but its body.
fn put_head(record: &mut Vec<u8>, kind: Kind, shape: &[u64], length: u64) -> Result<(), RecordError> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(RecordError::Dimensions { found: shape.len() });
    }
    kind.check_length(shape, length)?;
    put_text(record, kind.name());
    record.extend((shape.len() as u32).to_le_bytes());
    record.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
    record.extend(length.to_le_bytes());
    Ok(())
}

/// Text behind its length. The callers' limits keep it far below 2^32 bytes.
fn put_text(record: &mut Vec<u8>, text: &str) {
    record.extend((text.len() as u32).to_le_bytes());
    record.extend_from_slice(text.as_bytes());
}
