//! Tables in files: the samples are those of the columns that were written, whatever the encoding, and what is damaged or claims too much is
//! refused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringDictionaryBuilder};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::*;
use arrow_buffer::NullBuffer;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_ipc::{CompressionType, MetadataVersion};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_dataset::{Columns, DatasetError};
use sentry_hash::lattice::SampleDigest;
use sentry_manifest::record::{Field, Value, encode};
use sentry_manifest::{DatasetField, IdRule, MeasuredDataset};

fn measure(path: &Path) -> Result<MeasuredDataset, DatasetError> {
    Dataset::open(path, &ReadOptions::default(), &[])?.measure(2, &|_| ())
}

/// Samples of a file with these bytes, as the fields and the digests in the order of ids.
fn samples(name: &str, bytes: &[u8]) -> Result<(Vec<DatasetField>, Vec<SampleDigest>), DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    let measured = measure(folder.path())?;
    let digests = measured.sources()[0].table.entries().map(|entry| entry.digest).collect();
    Ok((measured.fields().to_vec(), digests))
}

fn refused(name: &str, bytes: &[u8]) -> (&'static str, String) {
    let error = samples(name, bytes).expect_err("this is no dataset");
    (error.code(), error.to_string())
}

/// What [`samples`] must find for rows in memory.
fn in_memory(batches: &[RecordBatch]) -> (Vec<DatasetField>, Vec<SampleDigest>) {
    let columns = Columns::new(batches[0].schema_ref(), &IdRule::Ordinal, None).unwrap();
    let rows = batches.iter().flat_map(|batch| columns.rows(batch).unwrap()).map(|row| row.digest).collect();
    (columns.fields().to_vec(), rows)
}

/// Rows of many types, with nulls, lists, structures and a dictionary.
fn mixed(rows: usize) -> RecordBatch {
    let numbers = || 0..rows as i64;
    let text = |number: i64| (number % 5 != 3).then(|| format!("{}-{number}", "text ".repeat((number % 30) as usize)));
    let mut labels = StringDictionaryBuilder::<Int32Type>::new();
    numbers().for_each(|number| {
        labels.append_option((number % 7 != 0).then(|| ["cat", "dog", "a label of more than twelve bytes"][number as usize % 3]))
    });
    let mut lists = ListBuilder::new(ListBuilder::new(arrow_array::builder::Float32Builder::new()));
    for number in numbers() {
        for inner in 0..number % 3 {
            lists.values().values().append_value(inner as f32);
            lists.values().append(inner != 1);
        }
        lists.append(number % 4 != 1);
    }
    let fields: Fields = vec![ArrowField::new("bytes", DataType::Binary, true), ArrowField::new("path", DataType::Utf8, true)].into();
    let bytes = BinaryArray::from_iter(numbers().map(|number| (number % 6 != 5).then(|| vec![number as u8; 10 + number as usize % 200])));
    let paths = StringArray::from_iter(numbers().map(|number| Some(format!("{number}.png"))));
    let nulls = NullBuffer::from_iter(numbers().map(|number| number % 9 != 8));
    let images = StructArray::new(fields, vec![Arc::new(bytes), Arc::new(paths)], Some(nulls));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("int", Arc::new(Int64Array::from_iter(numbers().map(|number| (number % 11 != 0).then_some(number * 1000))))),
        ("small", Arc::new(UInt8Array::from_iter_values(numbers().map(|number| number as u8)))),
        ("float", Arc::new(Float64Array::from_iter_values(numbers().map(|number| number as f64 / 3.0)))),
        ("truth", Arc::new(BooleanArray::from_iter(numbers().map(|number| Some(number % 2 == 0))))),
        ("text", Arc::new(StringArray::from_iter(numbers().map(text)))),
        ("large", Arc::new(LargeStringArray::from_iter(numbers().map(text)))),
        ("label", Arc::new(labels.finish())),
        ("lists", Arc::new(lists.finish())),
        ("image", Arc::new(images)),
        ("date", Arc::new(Date32Array::from_iter_values(numbers().map(|number| number as i32)))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(numbers()).with_timezone("UTC"))),
        ("span", Arc::new(DurationMillisecondArray::from_iter_values(numbers()))),
        ("price", Arc::new(Decimal128Array::from_iter_values(numbers().map(i128::from)).with_precision_and_scale(20, 2).unwrap())),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter(numbers().map(|number| [number as u8; 5])).unwrap())),
        ("nothing", Arc::new(NullArray::new(rows))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn parquet(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn ipc(batches: &[RecordBatch], stream: bool, compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut bytes = Vec::new();
    let schema = batches[0].schema();
    if stream {
        let mut writer = StreamWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    } else {
        let mut writer = FileWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    }
    bytes
}

#[test]
fn parquet_in_any_encoding_has_the_samples_that_were_written() {
    let rows = mixed(1000);
    let expected = in_memory(std::slice::from_ref(&rows));
    let builder =
        || WriterProperties::builder().set_max_row_group_row_count(Some(300)).set_data_page_row_count_limit(40).set_write_batch_size(40);
    let variants = [
        builder().build(),
        builder().set_dictionary_enabled(false).build(),
        builder().set_writer_version(WriterVersion::PARQUET_2_0).set_dictionary_enabled(false).build(),
        builder().set_writer_version(WriterVersion::PARQUET_2_0).set_compression(Compression::SNAPPY).build(),
        builder().set_compression(Compression::ZSTD(ZstdLevel::default())).set_statistics_enabled(EnabledStatistics::None).build(),
        builder().set_compression(Compression::GZIP(GzipLevel::default())).build(),
        builder().set_compression(Compression::BROTLI(BrotliLevel::default())).build(),
        builder().set_compression(Compression::LZ4_RAW).build(),
        builder().set_dictionary_enabled(false).set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY).build(),
        builder().set_dictionary_enabled(false).set_column_encoding("text".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY).build(),
        builder().set_dictionary_enabled(false).set_column_encoding("float".into(), Encoding::BYTE_STREAM_SPLIT).build(),
    ];
    for (number, properties) in variants.into_iter().enumerate() {
        let found = samples("a.parquet", &parquet(&rows, properties)).unwrap();
        assert_eq!(found, expected, "variant {number}");
    }
}

#[test]
fn arrow_files_and_streams_have_the_samples_that_were_written() {
    let whole = mixed(1000);
    let batches: Vec<RecordBatch> =
        [(0, 300), (300, 0), (300, 1), (301, 699)].iter().map(|&(start, length)| whole.slice(start, length)).collect();
    let expected = in_memory(&[whole]);
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        for stream in [false, true] {
            let bytes = ipc(&batches, stream, compression);
            assert_eq!(samples("a.arrow", &bytes).unwrap(), expected, "{compression:?}, stream: {stream}");
        }
    }
}

#[test]
fn streams_of_old_writers_have_no_mark_before_their_messages() {
    let rows = mixed(20);
    let options = IpcWriteOptions::try_new(8, true, MetadataVersion::V4).unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new_with_options(&mut bytes, &rows.schema(), options).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    assert_ne!(bytes[..4], [0xff; 4]);
    assert_eq!(samples("a.arrow", &bytes).unwrap(), in_memory(&[rows]));
    let (code, reason) = refused("a.feather", b"FEA1\0\0\0\0FEA1");
    assert_eq!(code, "dataset_malformed");
    assert!(reason.contains("Feather's first version"), "{reason}");
}

#[test]
fn dictionaries_that_are_replaced_within_a_stream_are_those_of_their_batches() {
    let batch = |texts: [&str; 2]| {
        let labels: DictionaryArray<Int8Type> = texts.into_iter().collect();
        RecordBatch::try_from_iter([("label", Arc::new(labels) as ArrayRef)]).unwrap()
    };
    let batches = [batch(["a", "b"]), batch(["c", "a"]), batch(["c", "a"])];
    assert_eq!(samples("a.arrow", &ipc(&batches, true, None)).unwrap(), in_memory(&batches));
}

#[test]
fn a_stream_without_its_end_or_with_more_behind_it_is_refused() {
    let whole = ipc(&[mixed(3)], true, None);
    let cut = refused("a.arrow", &whole[..whole.len() - 8]);
    assert_eq!(cut, ("dataset_malformed", "\"a.arrow\" is no valid Arrow: it ends too early".to_owned()));
    let more = refused("a.arrow", &[whole.as_slice(), &[0; 8]].concat());
    assert_eq!(more, ("dataset_malformed", "\"a.arrow\" is no valid Arrow: something stands behind its end".to_owned()));
}

#[test]
fn rows_that_take_no_bytes_are_bounded() {
    let nulls = |rows: usize| RecordBatch::try_from_iter_with_nullable([("x", Arc::new(NullArray::new(rows)) as ArrayRef, true)]).unwrap();
    assert_eq!(samples("a.arrow", &ipc(&[nulls(70_000)], false, None)).unwrap().1.len(), 70_000);
    for rows in [1 << 30, 1 << 40, i64::MAX as usize] {
        for stream in [false, true] {
            let (code, reason) = refused("a.arrow", &ipc(&[nulls(rows)], stream, None));
            assert_eq!(code, "dataset_malformed");
            assert!(reason.contains(&format!("it claims {rows} rows")), "{reason}");
        }
    }
}

#[test]
fn packed_buffers_that_claim_more_than_they_can_be_are_refused() {
    let numbers = Int64Array::from(vec![7; 10_000]);
    let rows = RecordBatch::try_from_iter([("x", Arc::new(numbers) as ArrayRef)]).unwrap();
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let whole = ipc(std::slice::from_ref(&rows), true, Some(compression));
        let claim = 80_000_i64.to_le_bytes();
        let place = whole.windows(8).position(|window| window == claim).expect("the length is there");
        for length in [1_i64 << 32, 1 << 60, i64::MAX, -2, 80_001, 79_999] {
            let mut damaged = whole.clone();
            damaged[place..place + 8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(refused("a.arrow", &damaged).0, "dataset_malformed", "{length}");
        }
    }
}

#[test]
fn a_long_value_that_all_rows_refer_to_is_held_once() {
    // As many copies would be 64 GiB.
    let long = "x".repeat(1 << 20);
    let keys = Int32Array::from(vec![0; 1 << 16]);
    let labels = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    let rows = RecordBatch::try_from_iter([("x", Arc::new(labels.slice(0, 512)) as ArrayRef)]).unwrap();
    let properties = || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    let file = parquet(&rows, properties().set_dictionary_page_size_limit(1 << 30).build());
    assert!(file.len() < 1 << 20);
    let (fields, found) = samples("a.parquet", &file).unwrap();
    assert_eq!(fields[0].arrow_type, "Utf8");
    assert_eq!(found, vec![SampleDigest::of_record(&encode(&[Field { name: "x", value: Value::Text(&long) }]).unwrap()); 512]);
}

#[test]
fn damage_to_any_byte_of_a_table_is_never_a_crash() {
    let rows = mixed(12).project(&[0, 4, 6, 7, 8]).unwrap();
    let differences =
        WriterProperties::builder().set_dictionary_enabled(false).set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY);
    let second = WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0).set_compression(Compression::SNAPPY);
    for (name, whole) in [
        ("a.parquet", parquet(&rows, differences.build())),
        ("a.parquet", parquet(&rows, second.build())),
        ("a.arrow", ipc(std::slice::from_ref(&rows), false, Some(CompressionType::ZSTD))),
        ("a.arrow", ipc(std::slice::from_ref(&rows), true, Some(CompressionType::LZ4_FRAME))),
        ("a.arrow", ipc(std::slice::from_ref(&rows), true, None)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut changed = 0;
        fs::write(&path, &whole).unwrap();
        let original = measure(folder.path()).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] = if place % 2 == 0 { damaged[place] ^ 1 << (place / 2 % 8) } else { 0xff };
            fs::write(&path, &damaged).unwrap();
            changed += usize::from(!measure(folder.path()).is_ok_and(|measured| measured == original));
        }
        // Statistics and names of writers count for nothing.
        assert!(changed > whole.len() / 2, "{name}: {changed} of {}", whole.len());
    }
}

/// Parquet without rows, whose schema is `groups` groups within each other, around a column.
fn nested_parquet(groups: usize) -> Vec<u8> {
    let elements = groups + 1;
    // Thrift: the version, and the schema's elements.
    let mut footer = vec![0x15, 2, 0x19, 0xfc, elements as u8 | 0x80, (elements >> 7) as u8 | 0x80, (elements >> 14) as u8];
    (0..groups).for_each(|_| footer.extend([0x35, 2, 0x18, 1, b'a', 0x15, 2, 0]));
    footer.extend([0x15, 2, 0x25, 2, 0x18, 1, b'a', 0]);
    // No rows, no row groups.
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    [b"PAR1".as_slice(), &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

#[test]
fn a_schema_nested_without_end_does_not_overflow_the_stack() {
    let (code, reason) = refused("a.parquet", &nested_parquet(200_000));
    assert_eq!(code, "dataset_malformed");
    assert!(reason.contains("nested deeper than 100 levels"), "{reason}");
    // One that records can hold is refused only for want of rows.
    let (_, reason) = refused("a.parquet", &nested_parquet(20));
    assert!(!reason.contains("nested"), "{reason}");
}

#[test]
fn shards_of_different_columns_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows = mixed(5);
    let plain = || WriterProperties::builder().build();
    fs::write(folder.path().join("train-00000-of-00002.parquet"), parquet(&rows.project(&[0, 1]).unwrap(), plain())).unwrap();
    fs::write(folder.path().join("train-00001-of-00002.parquet"), parquet(&rows.project(&[1, 2]).unwrap(), plain())).unwrap();
    let error = measure(folder.path()).unwrap_err();
    assert_eq!(error.code(), "dataset_layout", "{error}");
}

#[test]
fn files_without_rows_or_columns_are_no_dataset() {
    let empty = mixed(1).slice(0, 0);
    let no_columns =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &RecordBatchOptions::new().with_row_count(Some(3))).unwrap();
    let plain = || WriterProperties::builder().build();
    for (name, bytes) in [
        ("a.parquet", parquet(&empty, plain())),
        ("a.arrow", ipc(std::slice::from_ref(&empty), true, None)),
        ("a.arrow", ipc(&[no_columns], false, None)),
        ("a.jsonl", Vec::new()),
        ("a.csv", b"a,b\n".to_vec()),
        ("a.csv", Vec::new()),
        ("a.parquet", Vec::new()),
        ("a.arrow", Vec::new()),
        ("a.parquet", b"PAR1PAR1".to_vec()),
        ("a.arrow", b"ARROW1\0\0ARROW1".to_vec()),
    ] {
        refused(name, &bytes);
    }
}

fn line(fields: &[(&str, Value<'_>)]) -> SampleDigest {
    let fields: Vec<Field<'_>> = fields.iter().map(|(name, value)| Field { name, value: value.clone() }).collect();
    SampleDigest::of_record(&encode(&fields).unwrap())
}

#[test]
fn lines_of_json_are_the_samples_of_their_columns() {
    let text = "{\"a\": 1, \"b\": {\"c\": [\"x\", null], \"d\": true}}\n{\"b\": {}, \"a\": 0.1}\r\n{\"b\": null}";
    let (fields, found) = samples("a.jsonl", text.as_bytes()).unwrap();
    let fields: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.arrow_type.as_str())).collect();
    assert_eq!(fields, [("a", "Float64"), ("b", "Struct(\"c\": List(Utf8), \"d\": Boolean)")]);
    let b = |list: Value<'static>, truth: Value<'static>| {
        Value::Struct(vec![Field { name: "c", value: list }, Field { name: "d", value: truth }])
    };
    let list = Value::List(vec![Value::Text("x"), Value::Null]);
    assert_eq!(
        found,
        [
            line(&[("a", Value::Float(1.0)), ("b", b(list, Value::Bool(true)))]),
            line(&[("a", Value::Float(0.1)), ("b", b(Value::Null, Value::Null))]),
            line(&[("a", Value::Null), ("b", Value::Null)]),
        ]
    );
}

#[test]
fn lines_that_are_no_samples_are_named() {
    for (text, reason) in [
        ("{\"a\": 1}\n{\"a\": \"1\"}\n", "line 2: \"a\": a whole number is expected, and this is text"),
        ("{\"a\": 1}\n\n{\"a\": 1}\n", "line 2: it ends too early"),
        ("{\"a\": 1, \"a\": 2}\n", "line 1: the key \"a\" occurs twice, at column 16"),
        (
            "{\"a\": 9007199254740993}\n{\"a\": 0.5}\n",
            "line 1: \"a\": the number 9007199254740993 is among floats, and no float is the same",
        ),
    ] {
        assert_eq!(refused("a.jsonl", text.as_bytes()), ("dataset_malformed", format!("\"a.jsonl\" is no valid JSON Lines: {reason}")));
    }
}

#[test]
fn lines_with_keys_that_were_not_signed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "{\"a\": 1}\n{\"a\": 1, \"extra\": 2}\n").unwrap();
    let fields = vec![DatasetField { name: "a".to_owned(), arrow_type: "Int64".to_owned() }];
    let options = ReadOptions { fields: Some(fields), ..ReadOptions::default() };
    let error = Dataset::open(folder.path(), &options, &[]).and_then(|dataset| dataset.measure(1, &|_| ())).unwrap_err();
    assert_eq!(error.code(), "dataset_malformed");
    assert!(error.to_string().ends_with("line 2: the key \"extra\" is none of the fields"), "{error}");
}

#[test]
fn many_lines_are_read_in_batches_and_counted_as_one_file() {
    let mut text = Vec::new();
    for number in 0..40_000 {
        writeln!(text, "{{\"id\": {number}, \"text\": \"{}\"}}", "word ".repeat(number % 60)).unwrap();
    }
    let (_, found) = samples("a.jsonl", &text).unwrap();
    assert_eq!(found.len(), 40_000);
    let words = "word ".repeat(39_999 % 60);
    assert_eq!(found[39_999], line(&[("id", Value::Integer(39_999)), ("text", Value::Text(&words))]));
    text.extend(b"{\"id\": -1}\n");
    let (code, reason) = refused("a.jsonl", &text);
    assert_eq!(
        (code, reason.as_str()),
        ("dataset_column", "column \"id\": row 40000 has the id -1, and ids are not negative, in \"a.jsonl\"")
    );
}

#[test]
fn floats_of_csv_are_those_that_python_prints() {
    let floats = ["0.1", "1.0", "-0.0", "1e-05", "1.5e-07", "1e+16", "1e+300", "123456789012345.6", "0.0001", "5e-324"];
    let text = format!("x\n{}\n", floats.join("\n"));
    let (fields, found) = samples("a.csv", text.as_bytes()).unwrap();
    assert_eq!(fields[0].arrow_type, "Float64");
    let expected: Vec<_> = floats.iter().map(|text| line(&[("x", Value::Float(text.parse().unwrap()))])).collect();
    assert_eq!(found, expected);
    for other in ["1e-5", "1E-05", "+1.0", "1.", ".5", "1.50", "nan", "inf", " 1.0", "1", "0x1", "1e16", "10000000000000000.0"] {
        let (fields, found) = samples("a.csv", format!("x\n0.5\n{other}\n").as_bytes()).unwrap();
        assert_eq!((fields[0].arrow_type.as_str(), found[1]), ("Utf8", line(&[("x", Value::Text(other))])), "{other}");
    }
}

#[test]
fn rows_of_csv_with_other_numbers_of_values_or_bytes_that_are_no_text_are_refused() {
    for bytes in [&b"a,b\n1\n"[..], b"a,b\n1,2,3\n", b"a,b\n1,2\n3\n", b"a\n\xff\n", b"a,a\n1,2\n"] {
        let (code, reason) = refused("a.csv", bytes);
        assert!(matches!(code, "dataset_malformed" | "dataset_column"), "{reason}");
    }
}
