//! Datasets in files, of every format, made here: what their samples are, whatever the number of threads, and what is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use sentry_dataset::DatasetError;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::lattice::{SampleDigest, path_id};
use sentry_manifest::record::{Field, Value, encode};
use sentry_manifest::{DatasetField, IdRule, MeasuredDataset};

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path, &ReadOptions::default(), &[])
}

fn measure(path: &Path) -> MeasuredDataset {
    let dataset = open(path).unwrap();
    let measured = dataset.measure(1, &|_| ()).unwrap();
    for threads in 2..5 {
        assert_eq!(dataset.measure(threads, &|_| ()).unwrap(), measured, "{threads} threads");
    }
    measured
}

/// What is wrong with a dataset, when it is opened or read.
fn refused(path: &Path) -> (String, String) {
    let error = match open(path) {
        Err(error) => error,
        Ok(dataset) => dataset.measure(2, &|_| ()).expect_err("this is no dataset"),
    };
    (error.code().to_owned(), error.to_string())
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn digest(fields: &[Field<'_>]) -> SampleDigest {
    SampleDigest::of_record(&encode(fields).unwrap())
}

fn field<'a>(name: &'a str, value: Value<'a>) -> Field<'a> {
    Field { name, value }
}

/// Ids and digests of a source.
fn entries(measured: &MeasuredDataset, source: &str) -> Vec<(u64, SampleDigest)> {
    let source = measured.sources().iter().find(|known| known.name == source).expect("there is such a source");
    source.table.entries().map(|entry| (entry.id, entry.digest)).collect()
}

fn types(measured: &MeasuredDataset) -> Vec<(&str, &str)> {
    measured.fields().iter().map(|field| (field.name.as_str(), field.arrow_type.as_str())).collect()
}

fn pets(first: i64, count: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first..first + count);
    let images = BinaryArray::from_iter_values((first..first + count).map(image));
    let names = StringArray::from_iter((first..first + count).map(|id| (id % 3 > 0).then(|| format!("pet {id}"))));
    RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("image", Arc::new(images)), ("name", Arc::new(names))]).unwrap()
}

fn image(id: i64) -> Vec<u8> {
    vec![id as u8; 10 + 1000 * (id as usize % 4)]
}

fn pet(id: i64) -> (u64, SampleDigest) {
    let (image, name) = (image(id), format!("pet {id}"));
    let name = if id % 3 > 0 { Value::Text(&name) } else { Value::Null };
    (id as u64, digest(&[field("id", Value::Integer(id)), field("image", Value::Bytes(&image)), field("name", name)]))
}

fn parquet(batches: &[RecordBatch], group: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    bytes
}

fn arrow_file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn arrow_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

#[test]
fn rows_are_the_same_samples_in_parquet_and_arrow_in_any_groups_and_shards() {
    let expected: Vec<_> = (0..40).map(pet).collect();
    let both = [pets(0, 25), pets(25, 15)];
    for files in [
        vec![("train.parquet", parquet(&both, 1000))],
        vec![("data/train-00000-of-00001.parquet", parquet(&both, 7))],
        vec![("train-00000-of-00002.parquet", parquet(&both[1..], 4)), ("train-00001-of-00002.parquet", parquet(&both[..1], 1))],
        vec![("train/a.arrow", arrow_file(&both))],
        vec![("train/a.arrow", arrow_stream(&both))],
        vec![("train/a.arrow", arrow_stream(&both[..1])), ("train/b.arrow", arrow_file(&both[1..]))],
    ] {
        let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let measured = measure(folder(&files).path());
        assert_eq!(entries(&measured, "train"), expected, "{}", files[0].0);
        assert_eq!(types(&measured), [("id", "Int64"), ("image", "Binary"), ("name", "Utf8")]);
        assert_eq!(measured.ids(), &IdRule::Column("id".to_owned()));
    }
}

#[test]
fn rows_without_ids_are_numbered_within_their_source_in_the_order_of_files() {
    let column = |values: Vec<i64>| RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap();
    let files = [
        ("b/train-00001-of-00002.parquet", parquet(&[column(vec![30, 40])], 1)),
        ("a/train-00000-of-00002.parquet", parquet(&[column(vec![10, 20])], 1)),
        ("test.parquet", parquet(&[column(vec![50])], 9)),
    ];
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let measured = measure(folder(&files).path());
    let x = |id, value| (id, digest(&[field("x", Value::Integer(value))]));
    assert_eq!(entries(&measured, "train"), [x(0, 10), x(1, 20), x(2, 30), x(3, 40)]);
    assert_eq!(entries(&measured, "test"), [x(0, 50)]);
    assert_eq!(measured.ids(), &IdRule::Ordinal);
}

#[test]
fn a_column_can_name_ids_and_sources() {
    let folder = folder(&[("pets.csv", b"key,who,age\n7,cats,1\n3,dogs,2\n9,cats,3\n")]);
    let options = ReadOptions { ids: Some(IdRule::Column("key".to_owned())), source_column: Some("who".to_owned()), fields: None };
    let measured = Dataset::open(folder.path(), &options, &[]).unwrap().measure(2, &|_| ()).unwrap();
    let sample = |key, who, age| {
        (key as u64, digest(&[field("key", Value::Integer(key)), field("who", Value::Text(who)), field("age", Value::Integer(age))]))
    };
    assert_eq!(entries(&measured, "cats"), [sample(7, "cats", 1), sample(9, "cats", 3)]);
    assert_eq!(entries(&measured, "dogs"), [sample(3, "dogs", 2)]);
    for (ids, source, reason) in [
        ("who", None, "column \"who\": ids are integers, and this column is Utf8"),
        ("no", None, "column \"no\": there is no such column, which should hold the ids"),
        ("key", Some("age"), "column \"age\": names of sources are text, and this column is Int64"),
        ("key", Some("no"), "column \"no\": there is no such column, which should name the sources"),
    ] {
        let options = ReadOptions { ids: Some(IdRule::Column(ids.to_owned())), source_column: source.map(str::to_owned), fields: None };
        let error = Dataset::open(folder.path(), &options, &[]).err().expect("refused");
        assert_eq!((error.code(), error.to_string().as_str()), ("dataset_column", reason));
    }
}

#[test]
fn ids_that_are_missing_negative_or_repeated_are_refused() {
    for (text, code, reason) in [
        ("id,x\n1,a\n,b\n", "dataset_column", "column \"id\": row 1 has no id, in \"pets.csv\""),
        ("id,x\n1,a\n-2,b\n", "dataset_column", "column \"id\": row 1 has the id -2, and ids are not negative, in \"pets.csv\""),
        ("id,x\n1,a\n2,b\n1,c\n", "sample_repeated", "source \"default\" has two samples with id 1"),
    ] {
        assert_eq!(refused(folder(&[("pets.csv", text.as_bytes())]).path()), (code.to_owned(), reason.to_owned()));
    }
}

#[test]
fn values_of_csv_are_numbers_only_if_they_are_spelled_like_ones() {
    let text = "whole,float,padded,mixed,empty,text\n1,1.5,01,1,,a\n-7,-0.25,2,1.0,,\n,,,,,\"say \"\"hi\"\", ok\"\n";
    let folder = folder(&[("a.csv", text.as_bytes())]);
    let measured = measure(folder.path());
    assert_eq!(
        types(&measured),
        [("empty", "Null"), ("float", "Float64"), ("mixed", "Utf8"), ("padded", "Utf8"), ("text", "Utf8"), ("whole", "Int64")]
    );
    let last = digest(&[
        field("whole", Value::Null),
        field("float", Value::Null),
        field("padded", Value::Null),
        field("mixed", Value::Null),
        field("empty", Value::Null),
        field("text", Value::Text("say \"hi\", ok")),
    ]);
    assert_eq!(entries(&measured, "default")[2].1, last);
    // Once the types are signed, another spelling of the same number is not read as it.
    let options = ReadOptions { fields: Some(measured.fields().to_vec()), ..ReadOptions::default() };
    fs::write(folder.path().join("a.csv"), text.replace("\n-7,", "\n-07,")).unwrap();
    let error = Dataset::open(folder.path(), &options, &[]).unwrap().measure(1, &|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "\"a.csv\" is no valid CSV: column \"whole\" has \"-07\", which is no Int64");
}

#[test]
fn shards_of_csv_have_the_types_that_fit_all() {
    let measured = measure(folder(&[("train-0000-of-0002.csv", b"a,b\n1,\n"), ("train-0001-of-0002.csv", b"a,b\nx,2\n")]).path());
    assert_eq!(types(&measured), [("a", "Utf8"), ("b", "Int64")]);
    let (code, reason) = refused(folder(&[("a.csv", b"a,b\n1,2\n"), ("b.csv", b"a,c\n1,2\n")]).path());
    assert_eq!((code.as_str(), reason.as_str()), ("dataset_layout", "\"b.csv\" has other columns than the files before it"));
}

#[test]
fn lines_of_json_are_samples_with_lists_and_structures() {
    let text = "{\"q\": \"why \\u00e9\", \"ends\": [\"a\", \"b\", \"c\"], \"n\": 3, \"f\": 0.5, \"ok\": true, \"meta\": {\"a\": 1}}\n\
                {\"q\": \"\u{1F600}\", \"ends\": [], \"n\": null, \"f\": 1, \"ok\": false}\n";
    let measured = measure(folder(&[("validation.jsonl", text.as_bytes())]).path());
    let first = digest(&[
        field("q", Value::Text("why \u{e9}")),
        field("ends", Value::List(vec![Value::Text("a"), Value::Text("b"), Value::Text("c")])),
        field("n", Value::Integer(3)),
        field("f", Value::Float(0.5)),
        field("ok", Value::Bool(true)),
        field("meta", Value::Struct(vec![field("a", Value::Integer(1))])),
    ]);
    let second = digest(&[
        field("q", Value::Text("\u{1F600}")),
        field("ends", Value::List(vec![])),
        field("n", Value::Null),
        field("f", Value::Float(1.0)),
        field("ok", Value::Bool(false)),
        field("meta", Value::Null),
    ]);
    assert_eq!(entries(&measured, "validation"), [(0, first), (1, second)]);
    for wrong in ["{\"a\": 1}\n{\"a\": \"x\"}\n", "{\"a\": 1}\n[2]\n", "{\"a\": 1", "{\"a\": }\n", "no"] {
        assert_eq!(refused(folder(&[("a.jsonl", wrong.as_bytes())]).path()).0, "dataset_malformed", "{wrong}");
    }
}

#[test]
fn images_are_samples_with_their_folders_as_labels() {
    let large = vec![9; 3 << 20];
    let files: [(&str, &[u8]); 6] = [
        ("train/cat/1.png", b"first"),
        ("train/cat/2.PNG", &large),
        ("train/dog/1.png", b"third"),
        ("train/none.jpg", b"fourth"),
        ("README.md", b"about"),
        (".hidden/4.txt", b"not seen"),
    ];
    let folder = folder(&files);
    let measured = measure(folder.path());
    let mut expected: Vec<(u64, SampleDigest)> = Vec::new();
    for (path, bytes) in &files[..4] {
        let label = path.strip_prefix("train/").unwrap().split_once('/').map_or(Value::Null, |(label, _)| Value::Text(label));
        expected.push((path_id(path), digest(&[field("image", Value::Bytes(bytes)), field("label", label)])));
    }
    expected.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(entries(&measured, "train"), expected);
    assert_eq!(measured.ids(), &IdRule::Path);
    let others: Vec<String> = open(folder.path()).unwrap().others().iter().map(ToString::to_string).collect();
    assert_eq!(others, [".hidden/4.txt", "README.md"]);
}

#[test]
fn a_table_may_say_more_of_images() {
    let files: [(&str, &[u8]); 3] =
        [("test/a.png", b"first"), ("test/b.png", b"second"), ("test/metadata.csv", b"file_name,age,text\nb.png,3,\"two\nlines\"\n")];
    let measured = measure(folder(&files).path());
    assert_eq!(types(&measured), [("age", "Int64"), ("image", "Binary"), ("text", "Utf8")]);
    let sample =
        |path, image, age, text| (path_id(path), digest(&[field("image", Value::Bytes(image)), field("age", age), field("text", text)]));
    let mut expected = [
        sample("test/a.png", b"first", Value::Null, Value::Null),
        sample("test/b.png", b"second", Value::Integer(3), Value::Text("two\nlines")),
    ];
    expected.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(entries(&measured, "test"), expected);
    for (table, reason) in [
        (&b"file_name,x\nc.png,1\n"[..], "row 0 names \"test/c.png\", which is not there"),
        (b"file_name,x\na.png,1\na.png,2\n", "\"test/a.png\" is named twice"),
        (b"name,x\na.png,1\n", "it has no column \"file_name\""),
        (b"file_name,image\na.png,1\n", "the field \"image\" comes from elsewhere too"),
    ] {
        let found = refused(folder(&[files[0], files[1], ("test/metadata.csv", table)]).path());
        assert_eq!(found, ("dataset_layout".to_owned(), format!("\"test/metadata.csv\": {reason}")));
    }
}

/// An archive of files, without its end.
fn tar_members(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = tar(files);
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_have_a_sample_for_each_key() {
    let long = "deep/".repeat(30) + "0003";
    let large = vec![7; 2 << 20];
    let files: Vec<(String, &[u8])> = vec![
        ("0001.jpg".to_owned(), b"first"),
        ("0001.cls".to_owned(), b"3"),
        ("sub/0001.jpg".to_owned(), &large),
        (format!("{long}.seg.png"), b"third"),
    ];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let measured = measure(folder(&[("shard-train-0.tar", &tar(&files))]).path());
    assert_eq!(types(&measured), [("cls", "Binary"), ("jpg", "Binary"), ("seg.png", "Binary")]);
    let sample = |key: &str, cls, jpg, seg| (path_id(key), digest(&[field("cls", cls), field("jpg", jpg), field("seg.png", seg)]));
    let mut expected = [
        sample("0001", Value::Bytes(b"3"), Value::Bytes(b"first"), Value::Null),
        sample("sub/0001", Value::Null, Value::Bytes(&large), Value::Null),
        sample(&long, Value::Null, Value::Null, Value::Bytes(b"third")),
    ];
    expected.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(entries(&measured, "train"), expected);
}

#[test]
fn archives_that_mean_two_things_or_are_cut_off_are_refused() {
    let whole = tar(&[("1.jpg", b"first"), ("2.jpg", b"second")]);
    let link = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "1.jpg", "/etc/passwd").unwrap();
        builder.into_inner().unwrap()
    };
    for (bytes, reason) in [
        (tar(&[("1.jpg", b"a"), ("2.jpg", b"b"), ("1.cls", b"c")]), "the files of sample \"1\" are not together"),
        (tar(&[("1.jpg", b"a"), ("1.jpg", b"b")]), "\"1.jpg\" is there twice"),
        (tar(&[("noextension", b"a")]), "\"noextension\" has no key and field, which a dot would part"),
        (tar(&[(".hidden", b"a")]), "\".hidden\" has no key and field, which a dot would part"),
        (tar(&[("1.", b"a")]), "\"1.\" names no field"),
        (link, "\"1.jpg\" is neither a file nor a folder"),
        (tar(&[]), "it has no files"),
        (tar_members(&[("1.jpg", b"a")]), "it has no end"),
        (whole[..whole.len() - 1024 - 512 - 512].to_vec(), "it has no end"),
    ] {
        let found = refused(folder(&[("a.tar", &bytes)]).path());
        assert_eq!(found, ("dataset_malformed".to_owned(), format!("\"a.tar\" is no valid tar: {reason}")));
    }
    let (code, reason) = refused(folder(&[("a.tar.gz", b"x")]).path());
    assert_eq!((code.as_str(), reason.as_str()), ("dataset_layout", "\"a.tar.gz\" is compressed as a whole: files of samples are not"));
}

fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
    let padded = format!("{text}{}\n", " ".repeat(64 - (10 + text.len() + 1) % 64));
    [b"\x93NUMPY\x01\x00", &(padded.len() as u16).to_le_bytes()[..], padded.as_bytes(), data].concat()
}

#[test]
fn arrays_have_a_sample_for_each_of_their_first_dimension() {
    let floats: Vec<f64> = (0..12).map(f64::from).collect();
    let little: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
    let big: Vec<u8> = floats.iter().flat_map(|float| float.to_be_bytes()).collect();
    let labels = npy("'|u1'", "False", "(3,)", &[7, 8, 9]);
    let dtype = |name| sentry_manifest::safetensors::Dtype::from_name(name).unwrap();
    let expected: Vec<_> = (0..3)
        .map(|row: usize| {
            let x = Value::Tensor { dtype: dtype("F64"), shape: &[2, 2], bytes: &little[32 * row..32 * (row + 1)] };
            let label = [7 + row as u8];
            (row as u64, digest(&[field("x", x), field("y", Value::Tensor { dtype: dtype("U8"), shape: &[], bytes: &label })]))
        })
        .collect();
    for x in [npy("'<f8'", "False", "(3, 2, 2)", &little), npy("'>f8'", "False", "(3, 2, 2)", &big)] {
        for names in [["x_train.npy", "y_train.npy"], ["train/x.npy", "train/y.npy"]] {
            let measured = measure(folder(&[(names[0], &x), (names[1], &labels)]).path());
            assert_eq!(types(&measured), [("x", "FixedShapeTensor(Float64, [2, 2])"), ("y", "UInt8")]);
            assert_eq!(entries(&measured, "train"), expected);
        }
    }
    let ids = npy("'<i4'", "False", "(3,)", &[5, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    let measured = measure(folder(&[("id.npy", &ids), ("y.npy", &labels)]).path());
    assert_eq!(entries(&measured, "default").iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn arrays_that_are_pickles_or_do_not_fit_are_refused() {
    let y = npy("'|u1'", "False", "(3,)", &[7, 8, 9]);
    for (bytes, reason) in [
        (npy("'|O'", "False", "(1,)", b"\x80\x04K\x01."), "its elements are Python objects: pickles are never read"),
        (npy("'<f8'", "True", "(1, 2)", &[0; 16]), "it is in Fortran order, in which no sample lies together: save it in C order"),
        (npy("'<f8'", "False", "()", &[0; 8]), "it has no dimension that could count samples"),
        (npy("'<U2'", "False", "(1,)", &[0; 8]), "elements of type <U2 cannot be signed"),
        (npy("'<f8'", "False", "(2305843009213693951, 1)", &[0; 16]), "its shape and type need too many bytes, and it has 144"),
        (npy("'|u1'", "False", "(4,)", &[7, 8, 9]), "its shape and type need 132 bytes, and it has 131"),
        (npy("'|u1'", "False", "(2,)", &[7, 8, 9]), "its shape and type need 130 bytes, and it has 131"),
        (npy("'|u1'", "False", "(2, 0)", &[]), "its samples have no bytes"),
    ] {
        let found = refused(folder(&[("x.npy", &bytes)]).path());
        assert_eq!(found, ("dataset_malformed".to_owned(), format!("\"x.npy\" is no valid npy: {reason}")));
    }
    let two = npy("'|u1'", "False", "(2,)", &[7, 8]);
    let (code, reason) = refused(folder(&[("x.npy", &two), ("y.npy", &y)]).path());
    assert_eq!((code.as_str(), reason.as_str()), ("dataset_layout", "\"x.npy\" has 2 samples and \"y.npy\" has 3"));
    assert_eq!(
        refused(folder(&[("id.npy", &npy("'|i1'", "False", "(1,)", &[255])), ("y.npy", &npy("'|u1'", "False", "(1,)", &[1]))]).path()).0,
        "dataset_column"
    );
}

#[test]
fn a_mixture_of_formats_is_refused_and_pictures_beside_tables_are_none() {
    let table = parquet(&[pets(0, 2)], 9);
    let (code, reason) = refused(folder(&[("a.parquet", &table), ("b.csv", b"a\n1\n")]).path());
    assert_eq!(
        (code.as_str(), reason.as_str()),
        ("dataset_layout", "samples are of one format, and here are Parquet (\"a.parquet\") and CSV (\"b.csv\")")
    );
    assert_eq!(measure(folder(&[("a.parquet", &table), ("logo.png", b"x")]).path()).samples(), 2);
    for files in [&[("README.md", &b"x"[..])][..], &[("image.gitattributes", b"x")], &[]] {
        assert_eq!(refused(folder(files).path()).0, "dataset_layout");
    }
    let (_, reason) = refused(folder(&[("a.parquet", &table), ("b.parquet", &parquet(&[pets(0, 1).project(&[0, 1]).unwrap()], 9))]).path());
    assert_eq!(reason, "\"b.parquet\" has other fields than \"a.parquet\"");
}

#[test]
fn files_that_other_programs_would_read_beside_the_samples_are_refused() {
    let lines = &b"{\"x\": 1}\n"[..];
    for (samples, other) in [("a.jsonl", "evil.json"), ("a.csv", "more.TSV")] {
        let text = if samples == "a.csv" { &b"x\n1\n"[..] } else { lines };
        assert_eq!(refused(folder(&[(samples, text), (other, b"x")]).path()).0, "dataset_layout", "{other}");
    }
    assert_eq!(measure(folder(&[("a.jsonl", lines), ("dataset_infos.json", b"{}"), ("b.txt", b"x")]).path()).samples(), 1);
}

#[test]
fn one_file_is_a_dataset_too() {
    let folder = folder(&[("pets.csv", b"x\n1\n2\n"), ("other.parquet", b"never looked at")]);
    assert_eq!(measure(&folder.path().join("pets.csv")).samples(), 2);
}

#[test]
fn links_are_refused_and_a_file_that_changes_is_noticed() {
    let folder = folder(&[("a.csv", b"x\n1\n2\n")]);
    let dataset = open(folder.path()).unwrap();
    fs::write(folder.path().join("a.csv"), "x\n1\n3\n").unwrap();
    assert_eq!(dataset.measure(1, &|_| ()).unwrap_err().code(), "file_changed_while_read");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("b.csv")).unwrap();
    assert_eq!(refused(folder.path()).0, "symlink");
}

#[test]
fn signed_fields_decide_how_numbers_without_types_are_read() {
    let folder = folder(&[("a.jsonl", b"{\"x\": 1}\n{\"x\": 2}\n")]);
    let fields = vec![DatasetField { name: "x".to_owned(), arrow_type: "Float64".to_owned() }];
    let options = ReadOptions { fields: Some(fields.clone()), ..ReadOptions::default() };
    let measured = Dataset::open(folder.path(), &options, &[]).unwrap().measure(1, &|_| ()).unwrap();
    assert_eq!(measured.fields(), fields);
    assert_eq!(entries(&measured, "default")[1].1, digest(&[field("x", Value::Float(2.0))]));
}

#[test]
fn damage_anywhere_is_an_error_or_another_digest_and_never_a_crash() {
    let floats = RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(vec![1.0; 50])) as ArrayRef)]).unwrap();
    let wholes = [
        ("a.parquet", parquet(&[pets(0, 9)], 4)),
        ("a.arrow", arrow_file(&[pets(0, 9)])),
        ("b.arrow", arrow_stream(&[pets(0, 9), pets(9, 2)])),
        ("c.parquet", parquet(&[floats], 10)),
        ("a.tar", tar(&[("1.jpg", b"first"), ("1.cls", b"0"), ("2.jpg", &[3; 700])])),
        ("x.npy", npy("'<f8'", "False", "(3, 2)", &[1; 48])),
        ("a.jsonl", b"{\"a\": [1, 2], \"b\": {\"c\": \"text\"}}\n{\"a\": null}\n".to_vec()),
        ("a.csv", b"a,b\n1,\"x\ny\"\n2,z\n".to_vec()),
    ];
    for (name, whole) in wholes {
        let dir = folder(&[(name, &whole)]);
        let original = measure(dir.path());
        let path = dir.path().join(name);
        let step = (whole.len() / 300).max(1);
        for place in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&path, &damaged).unwrap();
            let _ = open(dir.path()).and_then(|dataset| dataset.measure(1, &|_| ()));
            fs::write(&path, &whole[..place]).unwrap();
            let cut = open(dir.path()).and_then(|dataset| dataset.measure(1, &|_| ()));
            // A last line counts without its end too.
            let is_whole = place == whole.len() - 1 && whole[place] == b'\n';
            assert!(is_whole || cut.map_or(true, |measured| measured != original), "{name} cut at {place}");
        }
    }
}
