//! The record of a sample: its fields in one canonical encoding, which the sample digest is over.
//!
//! ```text
//! record  for each field, in byte order of the names:  u32 length ‖ name ‖ value
//! value   u32 length ‖ type ‖ u32 ndim ‖ u64 dims… ‖ u64 nbytes ‖ body
//! body    the bytes if there are at most 64, else their BLAKE3 digest
//! ```
//!
//! Name, type, shape and length stand before the bytes, so no two samples share a record. Large values are hashed where
//! they lie. Specification: `docs/spec/samples.md`.
//!
//! ```
//! use sentry_hash::lattice::SampleDigest;
//! use sentry_manifest::record::{Field, Value, encode};
//!
//! let image = Field { name: "image", value: Value::Bytes(b"\x89PNG...") };
//! let label = Field { name: "label", value: Value::Integer(7) };
//! let record = encode(&[label.clone(), image.clone()])?;
//! assert_eq!(record, encode(&[image, label])?);
//! println!("{}", SampleDigest::of_record(&record));
//! # Ok::<(), sentry_manifest::record::RecordError>(())
//! ```

mod differs;
mod encode;
mod error;
mod parse;

pub use differs::{Culprit, field_that_differs};
pub use encode::encode;
pub use error::RecordError;
pub use parse::{ParsedBody, ParsedField, ParsedValue, parse};

use crate::safetensors::Dtype;

/// Longest body that stands in a record as it is, in bytes; a longer one is hashed.
pub const MAX_INLINE: u64 = 64;

/// Fewest bytes of an encoded value: two for the type's name, and no dimension.
const MIN_VALUE_LEN: u64 = 4 + 2 + 4 + 8;

/// One field of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value; [`Value::Null`] if the sample lacks it.
    pub value: Value<'a>,
}

/// A value as it is stored, before anything is decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A number (without dimensions), or an array of numbers.
    Tensor {
        /// The type of an element.
        dtype: Dtype,
        /// Elements in each dimension; none for a number.
        shape: &'a [u64],
        /// The elements, row-major and little-endian.
        bytes: &'a [u8],
    },
    /// A truth value without a type of its own: `BOOL`, 0 or 1.
    Bool(bool),
    /// An integer without a type of its own: `I64`.
    Integer(i64),
    /// A floating-point number without a type of its own: `F64`.
    Float(f64),
    /// Text, as it is: nothing is normalised.
    Text(&'a str),
    /// Bytes without a further meaning, such as an encoded image.
    Bytes(&'a [u8]),
    /// No value.
    Null,
    /// Fields within a field.
    Struct(Vec<Field<'a>>),
    /// Values in order, such as the rows of a ragged array.
    List(Vec<Value<'a>>),
    /// A value of more than [`MAX_INLINE`] bytes, whose digest is known already.
    Hashed {
        /// What it is; neither [`Kind::Struct`] nor [`Kind::List`].
        kind: Kind,
        /// Elements in each dimension; none but for numbers.
        shape: &'a [u64],
        /// Its length in bytes.
        length: u64,
        /// BLAKE3 of its bytes. If these are text or truth values, the caller has looked at them.
        digest: [u8; 32],
    },
}

/// What a value is, as its encoding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number or an array, of a type that safetensors knows.
    Tensor(Dtype),
    /// Text in UTF-8.
    Utf8,
    /// Bytes.
    Bytes,
    /// No value.
    Null,
    /// A record within the record.
    Struct,
    /// Values, one after the other.
    List,
}

impl Kind {
    /// The number type of this name, which the format is known to have.
    fn number(name: &str) -> Self {
        Self::Tensor(Dtype::from_name(name).expect("a type of the format"))
    }

    /// Looks a name up; exact, upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "UTF8" => Some(Self::Utf8),
            "BYTES" => Some(Self::Bytes),
            "NULL" => Some(Self::Null),
            "STRUCT" => Some(Self::Struct),
            "LIST" => Some(Self::List),
            other => Dtype::from_name(other).map(Self::Tensor),
        }
    }

    /// The name as in a record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor(dtype) => dtype.name(),
            Self::Utf8 => "UTF8",
            Self::Bytes => "BYTES",
            Self::Null => "NULL",
            Self::Struct => "STRUCT",
            Self::List => "LIST",
        }
    }

    /// Checks what length a value of this kind and `shape` has.
    fn check_length(self, shape: &[u64], length: u64) -> Result<(), RecordError> {
        let fits = match self {
            Self::Tensor(dtype) => dtype.size_of(shape) == Some(length),
            Self::Null => shape.is_empty() && length == 0,
            Self::Utf8 | Self::Bytes | Self::Struct => shape.is_empty(),
            Self::List => matches!(shape, [count] if count.checked_mul(MIN_VALUE_LEN).is_some_and(|least| least <= length)),
        };
        if fits { Ok(()) } else { Err(RecordError::Shape { kind: self.name(), shape: shape.to_vec(), length }) }
    }

    /// Checks what the bytes of a value may be: for those who hash them themselves.
    ///
    /// # Errors
    /// [`RecordError::Bool`], [`RecordError::Utf8`].
    pub fn check_bytes(self, bytes: &[u8]) -> Result<(), RecordError> {
        match self {
            Self::Tensor(dtype) if dtype.name() == "BOOL" && bytes.iter().any(|&byte| byte > 1) => Err(RecordError::Bool),
            Self::Utf8 if std::str::from_utf8(bytes).is_err() => Err(RecordError::Utf8),
            _ => Ok(()),
        }
    }
}
