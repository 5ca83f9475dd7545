//! From an Arrow array to values of records.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, RunEndIndexType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, StructArray};
use arrow_schema::{DataType, TimeUnit};
use sentry_manifest::record::{Field, Value};
use sentry_manifest::safetensors::Dtype;

use super::resolve;
use super::types::MAP_FIELDS;
use crate::FieldValues;

/// What goes wrong with a value, as the rest of a sentence.
type Reason = String;

/// Calls a macro with the Arrow type of a number, and the name of its type in records.
macro_rules! for_number {
    ($data_type:expr, $call:ident, $otherwise:expr) => {
        match $data_type {
            DataType::Int8 => $call!(Int8Type, "I8"),
            DataType::Int16 => $call!(Int16Type, "I16"),
            DataType::Int32 => $call!(Int32Type, "I32"),
            DataType::Int64 => $call!(Int64Type, "I64"),
            DataType::UInt8 => $call!(UInt8Type, "U8"),
            DataType::UInt16 => $call!(UInt16Type, "U16"),
            DataType::UInt32 => $call!(UInt32Type, "U32"),
            DataType::UInt64 => $call!(UInt64Type, "U64"),
            DataType::Float16 => $call!(Float16Type, "F16"),
            DataType::Float32 => $call!(Float32Type, "F32"),
            DataType::Float64 => $call!(Float64Type, "F64"),
            DataType::Date32 => $call!(Date32Type, "I32"),
            DataType::Date64 => $call!(Date64Type, "I64"),
            DataType::Time32(TimeUnit::Second) => $call!(Time32SecondType, "I32"),
            DataType::Time32(TimeUnit::Millisecond) => $call!(Time32MillisecondType, "I32"),
            DataType::Time64(TimeUnit::Microsecond) => $call!(Time64MicrosecondType, "I64"),
            DataType::Time64(TimeUnit::Nanosecond) => $call!(Time64NanosecondType, "I64"),
            DataType::Timestamp(TimeUnit::Second, _) => $call!(TimestampSecondType, "I64"),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $call!(TimestampMillisecondType, "I64"),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $call!(TimestampMicrosecondType, "I64"),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $call!(TimestampNanosecondType, "I64"),
            DataType::Duration(TimeUnit::Second) => $call!(DurationSecondType, "I64"),
            DataType::Duration(TimeUnit::Millisecond) => $call!(DurationMillisecondType, "I64"),
            DataType::Duration(TimeUnit::Microsecond) => $call!(DurationMicrosecondType, "I64"),
            DataType::Duration(TimeUnit::Nanosecond) => $call!(DurationNanosecondType, "I64"),
            DataType::Decimal32(..) => $call!(Decimal32Type, "I32"),
            DataType::Decimal64(..) => $call!(Decimal64Type, "I64"),
            _ => $otherwise,
        }
    };
}

// The bytes of Arrow's arrays are this machine's.
const _: () = assert!(cfg!(target_endian = "little"), "records are little-endian");

/// All values of a column.
pub fn of_column(array: &ArrayRef) -> Result<FieldValues<'_>, Reason> {
    macro_rules! together {
        ($kind:ty, $name:literal) => {
            Some(FieldValues::Tensors { dtype: dtype($name), shape: &[], bytes: bytes_of::<$kind>(array) })
        };
    }
    let numbers = if array.null_count() == 0 { for_number!(array.data_type(), together, None) } else { None };
    match numbers {
        Some(numbers) => Ok(numbers),
        None => (0..array.len()).map(|row| value(array, row)).collect::<Result<_, _>>().map(FieldValues::Values),
    }
}

fn dtype(name: &str) -> Dtype {
    Dtype::from_name(name).expect("a type of the format")
}

/// The bytes of an array of numbers, or of decimals.
fn bytes_of<T: ArrowPrimitiveType>(array: &dyn Array) -> &[u8] {
    array.as_primitive::<T>().values().inner().as_slice()
}

/// The bytes of one number.
fn number<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> &[u8] {
    let size = size_of::<T::Native>();
    &bytes_of::<T>(array)[row * size..(row + 1) * size]
}

/// One value of an array.
pub fn value(array: &ArrayRef, row: usize) -> Result<Value<'_>, Reason> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let (array, row) = resolve(array, row)?;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! alone {
        ($kind:ty, $name:literal) => {
            Value::Tensor { dtype: dtype($name), shape: &[], bytes: number::<$kind>(array, row) }
        };
    }
    Ok(for_number!(
        array.data_type(),
        alone,
        match array.data_type() {
            DataType::Null => Value::Null,
            DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
            DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Value::Text(array.as_string::<i64>().value(row)),
            DataType::Utf8View => Value::Text(array.as_string_view().value(row)),
            DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row)),
            DataType::LargeBinary => Value::Bytes(array.as_binary::<i64>().value(row)),
            DataType::BinaryView => Value::Bytes(array.as_binary_view().value(row)),
            DataType::FixedSizeBinary(_) => Value::Bytes(array.as_fixed_size_binary().value(row)),
            // No type of numbers in records is so long.
            DataType::Decimal128(..) => Value::Bytes(number::<Decimal128Type>(array, row)),
            DataType::Decimal256(..) => Value::Bytes(number::<Decimal256Type>(array, row)),
            DataType::Struct(_) => structure(array.as_struct(), row)?,
            DataType::List(_) => list::<i32>(array, row)?,
            DataType::LargeList(_) => list::<i64>(array, row)?,
            DataType::ListView(_) => list_view::<i32>(array, row)?,
            DataType::LargeListView(_) => list_view::<i64>(array, row)?,
            DataType::FixedSizeList(_, size) => {
                let size = usize::try_from(*size).map_err(|_| "a list of negative size")?;
                let start = array.as_fixed_size_list().value_offset_at(row);
                items(array.as_fixed_size_list().values(), start, start + size)?
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (start, end) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
                let entry = |entry| fields_of(map.entries(), MAP_FIELDS.into_iter(), entry);
                (start..end).map(entry).collect::<Result<_, _>>().map(Value::List)?
            }
            other => return Err(format!("type {other}, which cannot be signed")),
        }
    ))
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef, row: usize) -> Result<Value<'_>, Reason> {
    let list = array.as_list::<O>();
    items(list.values(), list.value_offsets()[row].as_usize(), list.value_offsets()[row + 1].as_usize())
}

fn list_view<O: OffsetSizeTrait>(array: &ArrayRef, row: usize) -> Result<Value<'_>, Reason> {
    let list = array.as_list_view::<O>();
    let start = list.value_offset(row).as_usize();
    items(list.values(), start, start + list.value_size(row).as_usize())
}

fn items(values: &ArrayRef, start: usize, end: usize) -> Result<Value<'_>, Reason> {
    (start..end).map(|item| value(values, item)).collect::<Result<_, _>>().map(Value::List)
}

fn structure(array: &StructArray, row: usize) -> Result<Value<'_>, Reason> {
    fields_of(array, array.fields().iter().map(|field| field.name().as_str()), row)
}

fn fields_of<'a>(array: &'a StructArray, names: impl Iterator<Item = &'a str>, row: usize) -> Result<Value<'a>, Reason> {
    let field = |(name, column)| value(column, row).map(|value| Field { name, value });
    names.zip(array.columns()).map(field).collect::<Result<_, _>>().map(Value::Struct)
}

/// Where the value of a row lies in an array of runs.
pub fn run<R: RunEndIndexType>(array: &ArrayRef, row: usize) -> (&ArrayRef, usize) {
    let runs = array.as_run::<R>();
    (runs.values(), runs.get_physical_index(row))
}

/// The value of a row as an id.
pub fn integer(array: &ArrayRef, row: usize) -> Result<u64, Reason> {
    if array.is_null(row) {
        return Err("no id".to_owned());
    }
    let (array, row) = resolve(array, row)?;
    integer_of(array, row)
}

/// As [`integer`], of an array that is no dictionary.
pub fn integer_of(array: &dyn Array, row: usize) -> Result<u64, Reason> {
    if array.is_null(row) {
        return Err("no id".to_owned());
    }
    macro_rules! signed {
        ($kind:ty) => {{
            let id = array.as_primitive::<$kind>().value(row);
            u64::try_from(id).map_err(|_| format!("the id {id}, and ids are not negative"))
        }};
    }
    match array.data_type() {
        DataType::Int8 => signed!(Int8Type),
        DataType::Int16 => signed!(Int16Type),
        DataType::Int32 => signed!(Int32Type),
        DataType::Int64 => signed!(Int64Type),
        DataType::UInt8 => Ok(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Ok(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Ok(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Ok(array.as_primitive::<UInt64Type>().value(row)),
        other => Err(format!("an id of type {other}")),
    }
}

/// The value of a row as text.
pub fn text(array: &ArrayRef, row: usize) -> Result<&str, Reason> {
    match value(array, row)? {
        Value::Text(text) => Ok(text),
        _ => Err("no text".to_owned()),
    }
}
