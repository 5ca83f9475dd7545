//! From a record back to what it says: for people who ask what was signed, and to tell a record from other bytes.

use super::{Kind, MAX_INLINE, RecordError};
use crate::limits::{MAX_DIMENSIONS, MAX_FIELDS, MAX_NAME_BYTES, MAX_RECORD_DEPTH};
use crate::printable;

/// A field as a record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedField<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: ParsedValue<'a>,
}

/// A value as a record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedValue<'a> {
    /// What it is.
    pub kind: Kind,
    /// Elements in each dimension; for a list the number of its values.
    pub shape: Vec<u64>,
    /// Length of the value in bytes, which may stand elsewhere.
    pub length: u64,
    /// The value, or its digest.
    pub body: ParsedBody<'a>,
}

/// What stands in a record for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedBody<'a> {
    /// The value's bytes.
    Bytes(&'a [u8]),
    /// The fields of a structure.
    Fields(Vec<ParsedField<'a>>),
    /// The values of a list.
    Values(Vec<ParsedValue<'a>>),
    /// The BLAKE3 digest of a value of more than [`MAX_INLINE`] bytes.
    Digest(&'a [u8; 32]),
}

/// Reads a sample's record strictly: what is accepted is exactly what [`encode`](super::encode) writes, as far as it
/// stands in the record and not behind a digest.
///
/// # Errors
/// Every variant of [`RecordError`].
pub fn parse(record: &[u8]) -> Result<Vec<ParsedField<'_>>, RecordError> {
    if record.is_empty() {
        return Err(RecordError::NoFields);
    }
    fields(record, 1)
}

fn fields(record: &[u8], depth: usize) -> Result<Vec<ParsedField<'_>>, RecordError> {
    let mut rest = Reader(record);
    let mut fields: Vec<ParsedField<'_>> = Vec::new();
    while !rest.0.is_empty() {
        if fields.len() == MAX_FIELDS {
            return Err(RecordError::TooManyFields);
        }
        let name = rest.field_name()?;
        match fields.last().map(|before| before.name.as_bytes().cmp(name.as_bytes())) {
            None | Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => return Err(RecordError::RepeatedField { name: printable(name) }),
            Some(std::cmp::Ordering::Greater) => return Err(RecordError::FieldOrder { name: printable(name) }),
        }
        fields.push(ParsedField { name, value: rest.value(depth)? });
    }
    Ok(fields)
}

/// The bytes that have not been read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn field_name(&mut self) -> Result<&'a str, RecordError> {
        let length = self.u32()? as usize;
        if length == 0 || length > MAX_NAME_BYTES {
            return Err(RecordError::FieldName { length });
        }
        std::str::from_utf8(self.take(length as u64)?).map_err(|_| RecordError::Utf8)
    }

    fn value(&mut self, depth: usize) -> Result<ParsedValue<'a>, RecordError> {
        if depth > MAX_RECORD_DEPTH {
            return Err(RecordError::TooDeep);
        }
        let kind = self.kind()?;
        let shape = self.shape()?;
        let length = self.u64()?;
        kind.check_length(&shape, length)?;
        let body = if length > MAX_INLINE {
            ParsedBody::Digest(self.array()?)
        } else {
            let bytes = self.take(length)?;
            kind.check_bytes(bytes)?;
            match kind {
                Kind::Struct => ParsedBody::Fields(fields(bytes, depth + 1)?),
                Kind::List => ParsedBody::Values(values(bytes, shape[0], depth + 1)?),
                _ => ParsedBody::Bytes(bytes),
            }
        };
        Ok(ParsedValue { kind, shape, length, body })
    }

    fn kind(&mut self) -> Result<Kind, RecordError> {
        let length = self.u32()?;
        let name = self.take(length.into())?;
        let unknown = || RecordError::UnknownType { name: printable(&String::from_utf8_lossy(name)) };
        std::str::from_utf8(name).ok().and_then(Kind::from_name).ok_or_else(unknown)
    }

    fn shape(&mut self) -> Result<Vec<u64>, RecordError> {
        let dimensions = self.u32()? as usize;
        if dimensions > MAX_DIMENSIONS {
            return Err(RecordError::Dimensions { found: dimensions });
        }
        (0..dimensions).map(|_| self.u64()).collect()
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], RecordError> {
        self.take(N as u64).map(|bytes| bytes.try_into().expect("as many bytes as asked for"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], RecordError> {
        let there = self.0.len() as u64;
        if length > there {
            return Err(RecordError::Truncated { missing: length - there });
        }
        let (taken, rest) = self.0.split_at(length as usize);
        self.0 = rest;
        Ok(taken)
    }
}

/// The values of a list, whose bytes bound their number.
fn values(bytes: &[u8], count: u64, depth: usize) -> Result<Vec<ParsedValue<'_>>, RecordError> {
    let mut rest = Reader(bytes);
    let values = (0..count).map(|_| rest.value(depth)).collect::<Result<_, _>>()?;
    if rest.0.is_empty() { Ok(values) } else { Err(RecordError::Trailing { extra: rest.0.len() }) }
}
