//! What keeps a sample from being recorded, and bytes from being a record.

use crate::limits;

/// A sample that cannot be recorded, or bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A name is empty or too long.
    #[error("the name of a field has 1 to {} bytes, found {length}", limits::MAX_NAME_BYTES)]
    FieldName {
        /// Its length in bytes.
        length: usize,
    },
    /// Two fields have the same name.
    #[error("two fields are named \"{name}\"")]
    RepeatedField {
        /// The name, escaped for printing.
        name: String,
    },
    /// The fields of a record do not stand in byte order of their names.
    #[error("field \"{name}\" does not come after the one before it")]
    FieldOrder {
        /// The name, escaped for printing.
        name: String,
    },
    /// A sample without fields.
    #[error("a sample has at least one field")]
    NoFields,
    /// More fields than [`limits::MAX_FIELDS`].
    #[error("a record has at most {} fields", limits::MAX_FIELDS)]
    TooManyFields,
    /// Structures and lists nested deeper than [`limits::MAX_RECORD_DEPTH`].
    #[error("values are nested deeper than {} levels", limits::MAX_RECORD_DEPTH)]
    TooDeep,
    /// More dimensions than [`limits::MAX_DIMENSIONS`].
    #[error("a value has at most {} dimensions, found {found}", limits::MAX_DIMENSIONS)]
    Dimensions {
        /// How many there are.
        found: usize,
    },
    /// A value has a shape or a length that its type does not allow.
    #[error("a value of type {kind} and shape {shape:?} cannot have {length} bytes")]
    Shape {
        /// The value's type.
        kind: &'static str,
        /// Its shape in elements.
        shape: Vec<u64>,
        /// Its length in bytes.
        length: u64,
    },
    /// A truth value is neither 0 nor 1.
    #[error("a byte of type BOOL is neither 0 nor 1")]
    Bool,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A type that nobody knows.
    #[error("unknown type \"{name}\"")]
    UnknownType {
        /// The name, escaped for printing.
        name: String,
    },
    /// The bytes end too early.
    #[error("the record ends within a field, {missing} bytes too early")]
    Truncated {
        /// How many bytes are missing, at least.
        missing: u64,
    },
    /// Something stands behind the last value of a list.
    #[error("{extra} bytes stand behind the last value of a list")]
    Trailing {
        /// How many bytes.
        extra: usize,
    },
}
