//! Rows of Arrow columns as samples: every type, against records made by hand, and the same digests in every layout.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder, StringDictionaryBuilder, StringRunBuilder};
use arrow_array::types::{ArrowPrimitiveType, Float16Type, Int8Type, Int16Type};
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field as ArrowField, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};

use sentry_dataset::{Columns, DatasetError, Row};
use sentry_hash::lattice::SampleDigest;
use sentry_manifest::IdRule;
use sentry_manifest::record::{Field, Value, encode};
use sentry_manifest::safetensors::Dtype;

/// Half precision, without a dependency of its own.
#[allow(non_camel_case_types)]
type f16 = <Float16Type as ArrowPrimitiveType>::Native;

fn batch(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("x", array, true)]).unwrap()
}

fn columns(batch: &RecordBatch) -> Columns {
    Columns::new(batch.schema_ref(), &IdRule::Ordinal, None).unwrap()
}

fn digests(batch: &RecordBatch) -> Vec<SampleDigest> {
    columns(batch).rows(batch).unwrap().into_iter().map(|row| row.digest).collect()
}

fn digest(value: Value<'_>) -> SampleDigest {
    SampleDigest::of_record(&encode(&[Field { name: "x", value }]).unwrap())
}

fn number<'a>(dtype: &str, bytes: &'a [u8]) -> Value<'a> {
    Value::Tensor { dtype: Dtype::from_name(dtype).unwrap(), shape: &[], bytes }
}

fn list_field(data_type: DataType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new_list_field(data_type, true))
}

/// The text of a column's type, and its rows against values.
fn check(array: ArrayRef, data_type: &str, values: &[Value<'_>]) {
    let rows = batch(array);
    assert_eq!(columns(&rows).fields()[0].arrow_type, data_type);
    let expected: Vec<_> = values.iter().cloned().map(digest).collect();
    assert_eq!(digests(&rows), expected, "{data_type}");
    // Row by row, which moves every offset.
    for (row, expected) in expected.iter().enumerate() {
        assert_eq!(digests(&rows.slice(row, 1)), [*expected], "row {row} of {data_type}");
    }
}

macro_rules! check_number {
    ($($array:ident, $native:ty, $dtype:literal, $text:literal;)*) => {$(
        let (one, two) = (<$native>::from_le_bytes([0x71; size_of::<$native>()]), <$native>::default());
        let (one_bytes, two_bytes) = (one.to_le_bytes(), two.to_le_bytes());
        check(Arc::new($array::from(vec![one, two])), $text, &[number($dtype, &one_bytes), number($dtype, &two_bytes)]);
        let with_null = [number($dtype, &one_bytes), Value::Null, number($dtype, &two_bytes)];
        check(Arc::new($array::from(vec![Some(one), None, Some(two)])), $text, &with_null);
    )*};
}

#[test]
fn numbers_are_their_bytes_and_type() {
    check_number!(
        Int8Array, i8, "I8", "Int8";
        Int16Array, i16, "I16", "Int16";
        Int32Array, i32, "I32", "Int32";
        Int64Array, i64, "I64", "Int64";
        UInt8Array, u8, "U8", "UInt8";
        UInt16Array, u16, "U16", "UInt16";
        UInt32Array, u32, "U32", "UInt32";
        UInt64Array, u64, "U64", "UInt64";
        Float16Array, f16, "F16", "Float16";
        Float32Array, f32, "F32", "Float32";
        Float64Array, f64, "F64", "Float64";
        Date32Array, i32, "I32", "Date32";
        Date64Array, i64, "I64", "Date64";
        Time32SecondArray, i32, "I32", "Time32(s)";
        Time32MillisecondArray, i32, "I32", "Time32(ms)";
        Time64MicrosecondArray, i64, "I64", "Time64(µs)";
        Time64NanosecondArray, i64, "I64", "Time64(ns)";
        TimestampSecondArray, i64, "I64", "Timestamp(s)";
        TimestampMillisecondArray, i64, "I64", "Timestamp(ms)";
        TimestampMicrosecondArray, i64, "I64", "Timestamp(µs)";
        TimestampNanosecondArray, i64, "I64", "Timestamp(ns)";
        DurationSecondArray, i64, "I64", "Duration(s)";
        DurationNanosecondArray, i64, "I64", "Duration(ns)";
    );
    let zoned = TimestampMillisecondArray::from(vec![1]).with_timezone("+02:00");
    check(Arc::new(zoned), "Timestamp(ms, \"+02:00\")", &[number("I64", &1_i64.to_le_bytes())]);
    check(
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        "Boolean",
        &[Value::Bool(true), Value::Null, Value::Bool(false)],
    );
    check(Arc::new(NullArray::new(2)), "Null", &[Value::Null, Value::Null]);
}

#[test]
fn floats_keep_every_bit() {
    let bits = [0x7ff8_0000_0000_0000_u64, 0x7ff0_0000_0000_0001, 0xfff8_0000_0000_0003, 0x8000_0000_0000_0000, 0];
    let floats: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
    let bytes: Vec<[u8; 8]> = bits.iter().map(|bits| bits.to_le_bytes()).collect();
    let values: Vec<Value<'_>> = bytes.iter().map(|bytes| number("F64", bytes)).collect();
    check(Arc::new(Float64Array::from(floats)), "Float64", &values);
}

#[test]
fn decimals_are_the_integers_that_are_stored() {
    let decimal = |digits: i128| digits.to_le_bytes();
    let narrow = Decimal32Array::from(vec![-5]).with_precision_and_scale(9, 2).unwrap();
    check(Arc::new(narrow), "Decimal32(9, 2)", &[number("I32", &(-5_i32).to_le_bytes())]);
    let wide = Decimal64Array::from(vec![-5]).with_precision_and_scale(18, 2).unwrap();
    check(Arc::new(wide), "Decimal64(18, 2)", &[number("I64", &(-5_i64).to_le_bytes())]);
    let array = Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(38, 2).unwrap();
    check(Arc::new(array), "Decimal128(38, 2)", &[Value::Bytes(&decimal(-5)), Value::Null]);
    let array = Decimal256Array::from(vec![i256::from_i128(-5)]).with_precision_and_scale(76, 2).unwrap();
    check(Arc::new(array), "Decimal256(76, 2)", &[Value::Bytes(&[decimal(-5), decimal(-1)].concat())]);
}

#[test]
fn text_and_bytes_are_the_same_in_every_layout() {
    let long = "ü€😀".repeat(5000);
    let texts = [Some(""), None, Some("short"), Some("exactly twelve"), Some(&*long), Some("short")];
    let values: Vec<Value<'_>> = texts.iter().map(|text| text.map_or(Value::Null, Value::Text)).collect();
    check(Arc::new(StringArray::from_iter(texts)), "Utf8", &values);
    check(Arc::new(LargeStringArray::from_iter(texts)), "Utf8", &values);
    check(Arc::new(StringViewArray::from_iter(texts)), "Utf8", &values);
    let mut dictionary = StringDictionaryBuilder::<Int8Type>::new();
    dictionary.extend(texts);
    check(Arc::new(dictionary.finish()), "Utf8", &values);
    let mut runs = StringRunBuilder::<Int16Type>::new();
    runs.extend(texts);
    check(Arc::new(runs.finish()), "Utf8", &values);

    let bytes = texts.map(|text| text.map(str::as_bytes));
    let values: Vec<Value<'_>> = bytes.iter().map(|bytes| bytes.map_or(Value::Null, Value::Bytes)).collect();
    check(Arc::new(BinaryArray::from_iter(bytes)), "Binary", &values);
    check(Arc::new(LargeBinaryArray::from_iter(bytes)), "Binary", &values);
    check(Arc::new(BinaryViewArray::from_iter(bytes)), "Binary", &values);
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7; 70]), None].into_iter(), 70).unwrap();
    check(Arc::new(fixed), "FixedSizeBinary(70)", &[Value::Bytes(&[7; 70]), Value::Null]);
}

#[test]
fn a_dictionary_may_hold_nulls_and_values_that_nobody_uses() {
    let values = StringArray::from(vec![Some("unused"), None, Some("used")]);
    let keys = Int8Array::from(vec![Some(2), Some(1), None]);
    let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
    check(Arc::new(dictionary), "Utf8", &[Value::Text("used"), Value::Null, Value::Null]);
}

#[test]
fn lists_are_the_same_in_every_layout() {
    let one = 1_i32.to_le_bytes();
    let two = 2_i32.to_le_bytes();
    let values =
        [Value::List(vec![number("I32", &one), Value::Null]), Value::Null, Value::List(vec![number("I32", &two), number("I32", &one)])];
    let items = || Arc::new(Int32Array::from(vec![Some(1), None, Some(9), Some(9), Some(2), Some(1)])) as ArrayRef;
    let nulls = || Some(NullBuffer::from(vec![true, false, true]));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 4, 6]));
    // What stands behind a null counts for nothing.
    check(Arc::new(ListArray::new(list_field(DataType::Int32), offsets, items(), nulls())), "List(Int32)", &values);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0_i64, 2, 4, 6]));
    check(Arc::new(LargeListArray::new(list_field(DataType::Int32), offsets, items(), nulls())), "List(Int32)", &values);
    let (offsets, sizes) = (ScalarBuffer::from(vec![0, 3, 4]), ScalarBuffer::from(vec![2, 0, 2]));
    check(Arc::new(ListViewArray::new(list_field(DataType::Int32), offsets, sizes, items(), nulls())), "List(Int32)", &values);
    let (offsets, sizes) = (ScalarBuffer::from(vec![0_i64, 3, 4]), ScalarBuffer::from(vec![2_i64, 0, 2]));
    check(Arc::new(LargeListViewArray::new(list_field(DataType::Int32), offsets, sizes, items(), nulls())), "List(Int32)", &values);
    check(Arc::new(FixedSizeListArray::new(list_field(DataType::Int32), 2, items(), nulls())), "FixedSizeList(2 x Int32)", &values);
}

#[test]
fn ragged_lists_of_lists_of_text_are_lists() {
    let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    builder.values().values().append_value("a");
    builder.values().append(true);
    builder.values().append(true);
    builder.append(true);
    builder.append(true);
    let values = [Value::List(vec![Value::List(vec![Value::Text("a")]), Value::List(vec![])]), Value::List(vec![])];
    check(Arc::new(builder.finish()), "List(List(Utf8))", &values);
}

#[test]
fn structures_are_records_and_maps_lists_of_them() {
    let fields = vec![ArrowField::new("b", DataType::Utf8, true), ArrowField::new("a", DataType::Int8, true)];
    let arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["x", "hidden"])), Arc::new(Int8Array::from(vec![None, Some(1)]))];
    let array = StructArray::new(fields.into(), arrays, Some(NullBuffer::from(vec![true, false])));
    let record = Value::Struct(vec![Field { name: "a", value: Value::Null }, Field { name: "b", value: Value::Text("x") }]);
    check(Arc::new(array), "Struct(\"a\": Int8, \"b\": Utf8)", &[record, Value::Null]);

    let entry = Value::Struct(vec![Field { name: "key", value: Value::Text("k") }, Field { name: "value", value: Value::Null }]);
    let names = |key: &str, value: &str| MapFieldNames { entry: "entries".to_owned(), key: key.to_owned(), value: value.to_owned() };
    // Writers have several names for the fields of entries.
    for names in [names("key", "value"), names("keys", "values"), names("b", "a")] {
        let mut map = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).unwrap();
        map.append(true).unwrap();
        let text = "List(Struct(\"key\": Utf8, \"value\": Utf8))";
        check(Arc::new(map.finish()), text, &[Value::List(vec![entry.clone()]), Value::List(vec![])]);
    }
}

#[test]
fn the_order_of_columns_and_the_cuts_of_batches_do_not_matter() {
    let (ids, texts): (ArrayRef, ArrayRef) = (Arc::new(Int64Array::from(vec![5, 6, 7])), Arc::new(StringArray::from(vec!["a", "b", "c"])));
    let one = RecordBatch::try_from_iter([("id", Arc::clone(&ids)), ("text", Arc::clone(&texts))]).unwrap();
    let other = RecordBatch::try_from_iter([("text", texts), ("id", ids)]).unwrap();
    assert_eq!(digests(&one), digests(&other));
    assert_eq!(digests(&one), [digests(&one.slice(0, 1)), digests(&other.slice(1, 2))].concat());
    assert_eq!(digests(&one.slice(1, 0)), []);
    let id = Columns::default_ids(one.schema_ref());
    assert_eq!(id, IdRule::Column("id".to_owned()));
    // Columns that were opened with one order take batches of the other.
    let rows = Columns::new(one.schema_ref(), &id, Some("text")).unwrap().rows(&other).unwrap();
    let found: Vec<_> = rows.iter().map(|Row { source, id, .. }| (source.as_deref().unwrap(), id.unwrap())).collect();
    assert_eq!(found, [("a", 5), ("b", 6), ("c", 7)]);
}

fn refused(result: Result<impl Sized, DatasetError>) -> (&'static str, String) {
    let error = result.err().expect("this is wrong");
    (error.code(), error.to_string())
}

#[test]
fn ids_are_whole_numbers_that_are_there() {
    let rows = |array: ArrayRef| {
        let rows = batch(array);
        Columns::new(rows.schema_ref(), &IdRule::Column("x".to_owned()), None).and_then(|columns| columns.rows(&rows))
    };
    let ids: Vec<_> = rows(Arc::new(UInt64Array::from(vec![u64::MAX, 0]))).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(ids, [Some(u64::MAX), Some(0)]);
    let keys = Int8Array::from(vec![1, 0, 1]);
    let dictionary = DictionaryArray::<Int8Type>::new(keys, Arc::new(Int32Array::from(vec![10, 20])));
    let ids: Vec<_> = rows(Arc::new(dictionary)).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(ids, [Some(20), Some(10), Some(20)]);
    for (array, reason) in [
        (Arc::new(Int64Array::from(vec![3, -1])) as ArrayRef, "column \"x\": row 1 has the id -1, and ids are not negative"),
        (Arc::new(Int8Array::from(vec![Some(3), None])), "column \"x\": row 1 has no id"),
        (Arc::new(StringArray::from(vec!["1"])), "column \"x\": ids are integers, and this column is Utf8"),
        (Arc::new(Float64Array::from(vec![1.0])), "column \"x\": ids are integers, and this column is Float64"),
    ] {
        assert_eq!(refused(rows(array)), ("dataset_column", reason.to_owned()));
    }
}

#[test]
fn sources_are_text_that_is_there() {
    let rows = |array: ArrayRef| {
        let rows = batch(array);
        Columns::new(rows.schema_ref(), &IdRule::Ordinal, Some("x")).and_then(|columns| columns.rows(&rows))
    };
    for array in [
        Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef,
        Arc::new(StringArray::from(vec!["a", ""])),
        Arc::new(StringArray::from(vec!["a".to_owned(), "a".repeat(4097)])),
        Arc::new(Int64Array::from(vec![1])),
    ] {
        assert_eq!(refused(rows(array)).0, "dataset_column");
    }
}

#[test]
fn schemas_that_no_record_can_hold_are_refused() {
    let new = |fields: Vec<ArrowField>| Columns::new(&Schema::new(fields), &IdRule::Ordinal, None);
    let union = DataType::Union(UnionFields::empty(), UnionMode::Dense);
    for data_type in
        [union, DataType::Interval(IntervalUnit::DayTime), DataType::List(list_field(DataType::Interval(IntervalUnit::YearMonth)))]
    {
        let (code, reason) = refused(new(vec![ArrowField::new("x", data_type, true)]));
        assert_eq!(code, "dataset_column", "{reason}");
    }
    let twice = vec![ArrowField::new("x", DataType::Int8, true), ArrowField::new("x", DataType::Int8, true)];
    assert_eq!(refused(new(twice)), ("dataset_column", "column \"x\": there are two columns of this name".to_owned()));
    let deep = (0..40).fold(DataType::Int8, |inner, _| DataType::List(list_field(inner)));
    assert_eq!(refused(new(vec![ArrowField::new("x", deep, true)])).0, "dataset_column");
}

#[test]
fn a_batch_of_another_schema_is_refused() {
    let columns = columns(&batch(Arc::new(Int64Array::from(vec![1]))));
    assert!(columns.rows(&batch(Arc::new(Int32Array::from(vec![1])))).is_err());
    let more =
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef), ("y", Arc::new(Int64Array::from(vec![1])))]);
    assert!(columns.rows(&more.unwrap()).is_err());
    let other = RecordBatch::try_from_iter([("y", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert!(columns.rows(&other).is_err());
}

#[test]
fn a_structure_with_two_fields_of_one_name_has_no_record_and_is_named() {
    let fields = vec![ArrowField::new("a", DataType::Int8, true), ArrowField::new("a", DataType::Int8, true)];
    let array = || Arc::new(Int8Array::from(vec![1; 5000])) as ArrayRef;
    let nulls = NullBuffer::from_iter((0..5000).map(|row| row == 4999));
    let rows = batch(Arc::new(StructArray::new(fields.into(), vec![array(), array()], Some(nulls))));
    let result = Columns::new(rows.schema_ref(), &IdRule::Ordinal, None).and_then(|columns| columns.rows(&rows));
    assert_eq!(refused(result), ("sample_record", "sample 4999 of the batch: two fields are named \"a\"".to_owned()));
}

#[test]
fn units_are_named_in_types() {
    let columns =
        Columns::new(&Schema::new(vec![ArrowField::new("x", DataType::Duration(TimeUnit::Microsecond), false)]), &IdRule::Ordinal, None);
    assert_eq!(columns.unwrap().fields()[0].arrow_type, "Duration(µs)");
}
