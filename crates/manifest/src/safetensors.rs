//! The safetensors header, read strictly.
//!
//! A file is `u64 N ‖ N bytes of JSON ‖ data`. The JSON maps each tensor's name to its dtype, shape and
//! byte range in the data. The rules here are those of the format's specification, and every one is
//! checked: the tensors, by (begin, end, name), start at byte 0, abut, and end with the file. So
//! no byte of the file is outside the header and the tensors, and none is in two of them.
//!
//! Source: the format section of the safetensors documentation; limits as in its library 0.8.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::json::{self, Object};
use crate::limits::{MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_SAFETENSORS_HEADER, MAX_TENSORS};
use crate::{SafetensorsError, printable};

/// Bytes of the length field before the JSON.
pub const LENGTH_FIELD: u64 = 8;

/// The key of the header's free text, which is no tensor.
const METADATA_KEY: &str = "__metadata__";

/// Element types, with their width in bits.
const DTYPES: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// An element type of the format, such as `BF16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dtype(&'static str, u64);

impl Dtype {
    /// Looks a name up; exact, upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        DTYPES.iter().find(|(known, _)| *known == name).map(|&(name, bits)| Self(name, bits))
    }

    /// The name as in the header.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Bytes of a tensor of this type and `shape` in elements; `None` if that is no whole number below
    /// 2^64.
    pub fn size_of(self, shape: &[u64]) -> Option<u64> {
        // From left to right, as the library does: a zero makes the tensor empty, whatever follows.
        let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
        let bits = elements.checked_mul(self.1)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// A tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape in elements.
    pub shape: Vec<u64>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors by (begin, end, name): the order of their bytes.
    pub tensors: Vec<TensorInfo>,
    /// Where the data begins in the file, in bytes.
    pub data_start: u64,
}

/// Where the data of a file begins, by its length field.
///
/// # Errors
/// [`SafetensorsError::HeaderTooLarge`] and [`SafetensorsError::HeaderTruncated`].
pub fn data_start(length_field: [u8; 8], file_size: u64) -> Result<u64, SafetensorsError> {
    let length = u64::from_le_bytes(length_field);
    if length > MAX_SAFETENSORS_HEADER {
        return Err(SafetensorsError::HeaderTooLarge { found: length });
    }
    let expected = LENGTH_FIELD + length;
    if expected > file_size {
        return Err(SafetensorsError::HeaderTruncated { expected, found: file_size });
    }
    Ok(expected)
}

impl Header {
    /// Parses the first bytes of a file of `file_size` bytes: the length field and all of the JSON.
    ///
    /// # Errors
    /// Every variant of [`SafetensorsError`].
    pub fn parse(bytes: &[u8], file_size: u64) -> Result<Self, SafetensorsError> {
        let truncated = SafetensorsError::HeaderTruncated { expected: LENGTH_FIELD, found: bytes.len() as u64 };
        let (length_field, document) = bytes.split_first_chunk::<8>().ok_or(truncated)?;
        let data_start = data_start(*length_field, file_size)?;
        if bytes.len() as u64 != data_start {
            return Err(SafetensorsError::HeaderTruncated { expected: data_start, found: bytes.len() as u64 });
        }
        if document.first() != Some(&b'{') {
            return Err(SafetensorsError::Json { reason: "it does not start with '{'".to_owned() });
        }
        let raw: RawHeader = json::parse(document)?;
        if !raw.metadata_is_text {
            return Err(SafetensorsError::Metadata);
        }
        if raw.too_many {
            return Err(SafetensorsError::TooManyTensors);
        }
        let mut tensors: Vec<_> = raw.tensors.into_iter().map(|tensor| tensor.check(data_start, file_size)).collect::<Result<_, _>>()?;
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
        check_tiling(&tensors, data_start, file_size)?;
        Ok(Self { tensors, data_start })
    }
}

/// Checks that sorted tensors start with the data, abut, and end with the file.
fn check_tiling(tensors: &[TensorInfo], data_start: u64, file_size: u64) -> Result<(), SafetensorsError> {
    let mut end = data_start;
    for tensor in tensors {
        let tensor_name = || printable(&tensor.name);
        let (expected, found) = (end - data_start, tensor.range.start - data_start);
        if found < expected {
            return Err(SafetensorsError::Overlap { tensor: tensor_name(), expected, found });
        }
        if found > expected {
            return Err(SafetensorsError::Hole { tensor: tensor_name(), expected, found });
        }
        end = tensor.range.end;
    }
    let (expected, found) = (end - data_start, file_size - data_start);
    if expected > found {
        return Err(SafetensorsError::PastEnd { expected, found });
    }
    if expected < found {
        return Err(SafetensorsError::TrailingData { expected, found });
    }
    Ok(())
}

/// The header as the JSON has it, before its numbers are checked.
#[derive(Default)]
struct RawHeader {
    tensors: Vec<RawTensor>,
    too_many: bool,
    metadata_is_text: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInfo {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct RawTensor {
    name: String,
    info: RawInfo,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader { metadata_is_text: true, ..RawHeader::default() };
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                let metadata: serde_json::Value = map.next_value()?;
                header.metadata_is_text = metadata.as_object().is_some_and(|map| map.values().all(serde_json::Value::is_string));
            } else if header.tensors.len() == MAX_TENSORS {
                header.too_many = true;
                map.next_value::<serde::de::IgnoredAny>()?;
            } else {
                let Object(info) = map.next_value()?;
                header.tensors.push(RawTensor { name, info });
            }
        }
        Ok(header)
    }
}

impl RawTensor {
    fn check(self, data_start: u64, file_size: u64) -> Result<TensorInfo, SafetensorsError> {
        let Self { name, info: RawInfo { dtype, shape, data_offsets: (begin, end) } } = self;
        let shown = printable(&name);
        if name.len() > MAX_NAME_BYTES {
            return Err(SafetensorsError::Json { reason: "a tensor's name is longer than 4096 bytes".to_owned() });
        }
        let Some(dtype) = Dtype::from_name(&dtype) else {
            return Err(SafetensorsError::Dtype { tensor: shown, found: printable(&dtype) });
        };
        if shape.len() > MAX_DIMENSIONS {
            return Err(SafetensorsError::Json { reason: format!("tensor \"{shown}\" has {} dimensions", shape.len()) });
        }
        let Some(expected) = dtype.size_of(&shape) else {
            return Err(SafetensorsError::ShapeOverflow { tensor: shown, shape });
        };
        if end.checked_sub(begin) != Some(expected) {
            return Err(SafetensorsError::Offsets { tensor: shown, expected, begin, end });
        }
        let past_end = SafetensorsError::PastEnd { expected: end, found: file_size - data_start };
        let stop = data_start.checked_add(end).ok_or(past_end)?;
        Ok(TensorInfo { name, dtype, shape, range: stop - expected..stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `json` as the header of a file with `data` bytes of data.
    fn parse(json: &str, data: u64) -> Result<Header, SafetensorsError> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        Header::parse(&bytes, bytes.len() as u64 + data)
    }

    fn tensor(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    fn code(entries: &[String], data: u64) -> &'static str {
        parse(&format!("{{{}}}", entries.join(",")), data).map_or_else(|error| error.code(), |_| "ok")
    }

    #[test]
    fn well_formed_headers() {
        let header = parse(
            &format!(
                "{{\"__metadata__\":{{\"format\":\"pt\"}},{},{},{}}}   ",
                tensor("b", "F32", "[2,3]", 4, 28),
                tensor("empty", "I64", "[0,7]", 4, 4),
                tensor("a", "BF16", "[2]", 0, 4)
            ),
            28,
        )
        .unwrap();
        let names: Vec<_> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "empty", "b"]);
        assert_eq!(header.tensors[2].range, header.data_start + 4..header.data_start + 28);
        assert_eq!(code(&[], 0), "ok");
        assert_eq!(code(&[tensor("scalar", "F64", "[]", 0, 8)], 8), "ok");
        assert_eq!(code(&[tensor("packed", "F4", "[4]", 0, 2)], 2), "ok");
    }

    #[test]
    fn each_defect_has_its_own_error() {
        let a = || tensor("a", "U8", "[4]", 0, 4);
        for (entries, data, expected) in [
            (vec![a(), tensor("b", "U8", "[2]", 2, 4)], 4, "safetensors_overlap"),
            (vec![a(), tensor("b", "U8", "[2]", 5, 7)], 7, "safetensors_hole"),
            (vec![tensor("a", "U8", "[4]", 1, 5)], 5, "safetensors_hole"),
            (vec![a(), tensor("z", "U8", "[0]", 2, 2)], 4, "safetensors_overlap"),
            (vec![tensor("a", "U8", "[4]", 4, 0)], 4, "safetensors_offsets"),
            (vec![tensor("a", "U8", "[3]", 0, 4)], 4, "safetensors_offsets"),
            (vec![tensor("a", "U8", "[4]", u64::MAX - 4, u64::MAX)], 4, "safetensors_past_end"),
            (vec![a()], 3, "safetensors_past_end"),
            (vec![a()], 5, "safetensors_trailing_data"),
            (vec![tensor("a", "F31", "[1]", 0, 4)], 4, "safetensors_dtype"),
            (vec![tensor("a", "f32", "[1]", 0, 4)], 4, "safetensors_dtype"),
            (vec![tensor("a", "F64", "[4294967296,4294967296]", 0, 0)], 0, "safetensors_shape_overflow"),
            (vec![tensor("a", "F64", "[4611686018427387904]", 0, 0)], 0, "safetensors_shape_overflow"),
            (vec![tensor("a", "F4", "[1]", 0, 1)], 1, "safetensors_shape_overflow"),
            (vec![tensor("a", "U8", "[-4]", 0, 4)], 4, "safetensors_json"),
            (vec![tensor("a", "U8", "[4.0]", 0, 4)], 4, "safetensors_json"),
            (vec![a(), a()], 4, "safetensors_duplicate_key"),
            (vec![r#""__metadata__":{"n":1}"#.into(), a()], 4, "safetensors_metadata"),
            (vec![r#""__metadata__":"text""#.into(), a()], 4, "safetensors_metadata"),
            (vec![r#""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}"#.into()], 4, "safetensors_json"),
            (vec![r#""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}"#.into()], 4, "safetensors_json"),
            (vec![r#""a":{"dtype":"U8","shape":[4]}"#.into()], 4, "safetensors_json"),
        ] {
            assert_eq!(code(&entries, data), expected, "{entries:?}");
        }
    }

    #[test]
    fn the_length_field_is_bounded_before_anything_is_read() {
        assert!(matches!(data_start(u64::MAX.to_le_bytes(), 100), Err(SafetensorsError::HeaderTooLarge { .. })));
        assert!(matches!(data_start((u64::MAX - 7).to_le_bytes(), 100), Err(SafetensorsError::HeaderTooLarge { .. })));
        assert!(matches!(data_start(93_u64.to_le_bytes(), 100), Err(SafetensorsError::HeaderTruncated { .. })));
        assert!(matches!(data_start(92_u64.to_le_bytes(), 100), Ok(100)));
        assert!(matches!(Header::parse(b"\x02\0\0", 3), Err(SafetensorsError::HeaderTruncated { .. })));
        assert!(matches!(parse(" {}", 0), Err(SafetensorsError::Json { .. })));
    }
}
