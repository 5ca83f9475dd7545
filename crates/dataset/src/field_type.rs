//! What a signed type of a field says of its values, for samples that come without types of their own.

use arrow_schema::DataType;
use sentry_manifest::limits::MAX_RECORD_DEPTH;
use sentry_manifest::safetensors::Dtype;

/// How values of a field are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    /// A number.
    Number(Dtype),
    /// Arrays of one type and shape.
    Tensor(Dtype, Vec<u64>),
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Values in order.
    List(Box<FieldType>),
    /// Fields, by name.
    Struct(Vec<(String, FieldType)>),
    /// Anything else: values go by what they are.
    Any,
}

impl FieldType {
    /// Reads the text of a signed field's type.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("FixedShapeTensor(").and_then(|rest| rest.strip_suffix("])")) {
            Some(tensor) => parse_tensor(tensor).unwrap_or(Self::Any),
            // The parser calls itself for what is in parentheses, and would run out of stack.
            None if nesting(text) > MAX_RECORD_DEPTH => Self::Any,
            None => text.parse().map_or(Self::Any, |parsed: DataType| Self::of(&parsed)),
        }
    }

    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _) => Self::List(Box::new(Self::of(field.data_type()))),
            DataType::Struct(fields) => {
                Self::Struct(fields.iter().map(|field| (field.name().clone(), Self::of(field.data_type()))).collect())
            }
            number => number_of(number).map_or(Self::Any, Self::Number),
        }
    }
}

/// How many parentheses are open at once, at most.
fn nesting(text: &str) -> usize {
    let mut open = 0_usize;
    let depth = |letter| {
        match letter {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        open
    };
    text.chars().map(depth).max().unwrap_or(0)
}

/// The type of a number's record; dates and times are the integers that are stored.
fn number_of(data_type: &DataType) -> Option<Dtype> {
    Dtype::from_name(match data_type {
        DataType::Boolean => "BOOL",
        DataType::Int8 => "I8",
        DataType::Int16 => "I16",
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => "I32",
        DataType::Int64 | DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => "I64",
        DataType::UInt8 => "U8",
        DataType::UInt16 => "U16",
        DataType::UInt32 => "U32",
        DataType::UInt64 => "U64",
        DataType::Float16 => "F16",
        DataType::Float32 => "F32",
        DataType::Float64 => "F64",
        _ => return None,
    })
}

/// `Float64, [8, 8` of `FixedShapeTensor(Float64, [8, 8])`.
fn parse_tensor(text: &str) -> Option<FieldType> {
    let (name, shape) = text.split_once(", [")?;
    let dtype = match name {
        "Complex64" => Dtype::from_name("C64")?,
        _ => number_of(&name.parse().ok()?)?,
    };
    let shape: Option<Vec<u64>> = match shape {
        "" => Some(Vec::new()),
        dimensions => dimensions.split(", ").map(|dimension| dimension.parse().ok()).collect(),
    };
    Some(FieldType::Tensor(dtype, shape?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> FieldType {
        FieldType::Number(Dtype::from_name(name).unwrap())
    }

    #[test]
    fn types_are_read_as_they_are_written() {
        for (text, expected) in [
            ("Int8", number("I8")),
            ("Boolean", number("BOOL")),
            ("Float16", number("F16")),
            ("Timestamp(µs)", number("I64")),
            ("Utf8", FieldType::Text),
            ("LargeBinary", FieldType::Bytes),
            ("List(Int64)", FieldType::List(Box::new(number("I64")))),
            ("FixedShapeTensor(Float64, [8, 8])", FieldType::Tensor(Dtype::from_name("F64").unwrap(), vec![8, 8])),
            ("FixedShapeTensor(UInt8, [])", FieldType::Tensor(Dtype::from_name("U8").unwrap(), vec![])),
            ("FixedShapeTensor(Utf8, [8])", FieldType::Any),
            ("FixedShapeTensor(Float64, [8, -1])", FieldType::Any),
            ("Decimal128(10, 2)", FieldType::Any),
            ("Duck", FieldType::Any),
        ] {
            assert_eq!(FieldType::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_type_of_structures_names_its_fields() {
        use arrow_schema::Field;
        let image = DataType::Struct(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into());
        let expected = FieldType::Struct(vec![("bytes".to_owned(), FieldType::Bytes), ("path".to_owned(), FieldType::Text)]);
        assert_eq!(FieldType::parse(&image.to_string()), expected);
    }

    #[test]
    fn a_type_without_end_is_none() {
        assert_eq!(FieldType::parse(&"List(".repeat(100_000)), FieldType::Any);
    }
}
