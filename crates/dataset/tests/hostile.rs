//! Files that were made to deceive, or to exhaust whoever reads them: archives and arrays that readers take in two ways, folders that hold
//! more than is seen, files that change while they are read.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_dataset::DatasetError;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::lattice::{SampleDigest, path_id};
use sentry_manifest::record::{Field, Value, encode};
use sentry_manifest::safetensors::Dtype;
use sentry_manifest::{IdRule, MeasuredDataset};

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(path, &ReadOptions::default(), &[])
}

fn try_measure(path: &Path) -> Result<MeasuredDataset, DatasetError> {
    open(path)?.measure(1, &|_| ())
}

fn measure(path: &Path) -> MeasuredDataset {
    let measured = try_measure(path).unwrap();
    for threads in 2..5 {
        assert_eq!(open(path).unwrap().measure(threads, &|_| ()).unwrap(), measured, "{threads} threads");
    }
    measured
}

fn refused(path: &Path) -> (String, String) {
    let error = try_measure(path).expect_err("this is no dataset");
    (error.code().to_owned(), error.to_string())
}

fn folder<T: AsRef<[u8]>>(files: &[(&str, T)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Writes a new file: some file systems flush one that is overwritten, which takes its time.
fn rewrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn digest(fields: &[Field<'_>]) -> SampleDigest {
    SampleDigest::of_record(&encode(fields).unwrap())
}

fn field<'a>(name: &'a str, value: Value<'a>) -> Field<'a> {
    Field { name, value }
}

fn entries(measured: &MeasuredDataset, source: &str) -> Vec<(u64, SampleDigest)> {
    let source = measured.sources().iter().find(|known| known.name == source).expect("there is such a source");
    source.table.entries().map(|entry| (entry.id, entry.digest)).collect()
}

fn sorted(mut samples: Vec<(u64, SampleDigest)>) -> Vec<(u64, SampleDigest)> {
    samples.sort_unstable_by_key(|(id, _)| *id);
    samples
}

/// Headers in the three forms that there are.
#[derive(Clone, Copy)]
enum Form {
    Old,
    Ustar,
    Gnu,
}

/// A header and what follows it; `change` is made before the sum is computed.
fn member(form: Form, kind: u8, name: &str, bytes: &[u8], change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut header = match form {
        Form::Old => tar::Header::new_old(),
        Form::Ustar => tar::Header::new_ustar(),
        Form::Gnu => tar::Header::new_gnu(),
    };
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    change(header.as_mut_bytes());
    header.set_cksum();
    let padding = bytes.len().next_multiple_of(512) - bytes.len();
    [header.as_bytes(), bytes, &vec![0; padding]].concat()
}

fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    member(Form::Ustar, b'0', name, bytes, |_| ())
}

fn attributes(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
        format!("{length} {key}={value}\n")
    };
    member(Form::Ustar, kind, "attributes", records.iter().map(record).collect::<String>().as_bytes(), |_| ())
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

#[test]
fn an_image_has_the_id_of_its_path_and_a_sample_of_an_archive_that_of_its_key() {
    let images = measure(folder(&[("train/cat/1.png", "a"), ("train/dog/2.png", "b")]).path());
    let image = |path, bytes: &'static [u8], label| {
        (path_id(path), digest(&[field("image", Value::Bytes(bytes)), field("label", Value::Text(label))]))
    };
    let expected = vec![image("train/cat/1.png", b"a", "cat"), image("train/dog/2.png", b"b", "dog")];
    assert_eq!(entries(&images, "train"), sorted(expected));

    let members = [file("cat/1.png", b"a"), file("cat/1.cls", b"cat"), file("dog/2.png", b"b"), file("dog/2.cls", b"dog")];
    let shards = measure(folder(&[("train-0.tar", archive(&members))]).path());
    let sample = |key, bytes: &'static [u8], label: &'static [u8]| {
        (path_id(key), digest(&[field("png", Value::Bytes(bytes)), field("cls", Value::Bytes(label))]))
    };
    assert_eq!(entries(&shards, "train"), sorted(vec![sample("cat/1", b"a", b"cat"), sample("dog/2", b"b", b"dog")]));
}

#[test]
fn archives_are_read_in_every_form_that_has_one_meaning() {
    let long = format!("{}/1.jpg", "deep".repeat(40));
    let prefixed = |header: &mut [u8; 512]| header[345..349].copy_from_slice(b"sub\0");
    for (members, key) in [
        (vec![member(Form::Old, 0, "1.jpg", b"a", |_| ())], "1"),
        (vec![member(Form::Gnu, b'0', "1.jpg", b"a", |_| ())], "1"),
        (vec![member(Form::Ustar, b'0', "1.jpg", b"a", prefixed)], "sub/1"),
        (vec![member(Form::Gnu, b'L', "././@LongLink", format!("{long}\0").as_bytes(), |_| ()), file("1.cls", b"a")], &long[..162]),
        (vec![attributes(b'x', &[("mtime", "1.5"), ("path", &long)]), file("1.cls", b"a")], &long[..162]),
        (vec![attributes(b'x', &[("size", "1")]), file("1.jpg", b"")[..512].to_vec(), file("1.jpg", b"a")[512..].to_vec()], "1"),
        (vec![attributes(b'g', &[("comment", "of a version")]), file("1.jpg", b"a")], "1"),
        (vec![member(Form::Ustar, b'5', "sub/", b"", |_| ()), file("sub/1.jpg", b"a")], "sub/1"),
        (vec![file("./1.jpg", b"a")], "./1"),
        (vec![file("__MACOSX/1.jpg", b"a")], "__MACOSX/1"),
        (vec![file("1.jpg", b"a"), vec![0; 10_240]], "1"),
    ] {
        let measured = measure(folder(&[("a.tar", archive(&members))]).path());
        assert_eq!(entries(&measured, "default"), [(path_id(key), digest(&[field("jpg", Value::Bytes(b"a"))]))], "{key}");
    }
}

#[test]
fn archives_that_readers_take_in_two_ways_are_refused() {
    let plain = || file("1.jpg", b"a");
    let hidden = file("2.jpg", b"b");
    let long = |name: &[u8]| member(Form::Gnu, b'L', "././@LongLink", name, |_| ());
    let path = |name| attributes(b'x', &[("path", name)]);
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("a file in a folder's bytes", vec![member(Form::Ustar, b'5', "sub/", &hidden, |_| ()), plain()], "the folder \"sub/\" has bytes"),
        (
            "GNU's own fields as folders",
            vec![member(Form::Gnu, b'0', "1.jpg", b"a", |header| header[345..349].copy_from_slice(b"evil"))],
            "the header at byte 0 has folders that only some programs see",
        ),
        ("two long names", vec![long(b"1.jpg\0"), long(b"2.jpg\0"), plain()], "a file has two long names"),
        ("a long name and a path", vec![path("2.jpg"), long(b"3.jpg\0"), plain()], "a file has two long names"),
        ("attributes twice", vec![path("2.jpg"), path("3.jpg"), plain()], "a file has attributes twice"),
        ("a path twice", vec![attributes(b'x', &[("path", "2.jpg"), ("path", "3.jpg")]), plain()], "a file has an attribute twice"),
        ("one path for all", vec![attributes(b'g', &[("path", "2.jpg")]), plain()], "all files have one name or size"),
        ("holes", vec![attributes(b'x', &[("GNU.sparse.name", "2.jpg")]), plain()], "a file is stored with holes"),
        (
            "a damaged attribute",
            vec![member(Form::Ustar, b'x', "x", b"99 path=2.jpg\n", |_| ()), plain()],
            "attributes of a file cannot be read",
        ),
        ("a negative size", vec![attributes(b'x', &[("size", "-1")]), plain()], "attributes of a file cannot be read"),
        ("an end within a name", vec![long(b"1.jpg\0.cls\0"), plain()], "unsafe name \"1.jpg\\0.cls\": it has a NUL byte"),
        ("attributes of no file", vec![plain(), path("2.jpg")], "its last header is about a file that is not there"),
        ("more files after the end", vec![plain(), vec![0; 1024], hidden.clone()], "something follows its end"),
        ("an end of one block", vec![plain(), vec![0; 512], hidden.clone()], "something follows its end"),
        ("a device", vec![member(Form::Ustar, b'3', "1.jpg", b"", |_| ())], "\"1.jpg\" is neither a file nor a folder"),
        ("a hard link", vec![plain(), member(Form::Ustar, b'1', "2.jpg", b"", |_| ())], "\"2.jpg\" is neither a file nor a folder"),
        ("GNU's holes", vec![member(Form::Gnu, b'S', "1.jpg", b"", |_| ())], "\"1.jpg\" is neither a file nor a folder"),
        (
            "a size of more than 8 bytes",
            vec![member(Form::Gnu, b'0', "1.jpg", b"a", |header| header[124..127].copy_from_slice(&[0x80, 1, 0]))],
            "the header at byte 0 has no size",
        ),
        (
            "a size below nothing",
            vec![member(Form::Gnu, b'0', "1.jpg", b"a", |header| header[124..136].fill(0xff))],
            "the header at byte 0 has no size",
        ),
        (
            "the largest size",
            vec![member(Form::Gnu, b'0', "1.jpg", b"a", |header| {
                header[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
                header[128..136].fill(0xff);
            })],
            "\"1.jpg\" is cut off",
        ),
        (
            "a size beyond the file",
            vec![member(Form::Ustar, b'0', "1.jpg", b"a", |header| header[124..135].copy_from_slice(b"77777777777"))],
            "\"1.jpg\" is cut off",
        ),
        ("a name of megabytes", vec![long(&vec![b'a'; 2 << 20]), plain()], "the header at byte 0 has 2097152 bytes of attributes"),
        ("a name of many bytes", vec![long(&[b'a'; 5000]), plain()], "a name is longer than 4096 bytes"),
    ];
    for (what, members, reason) in cases {
        let found = refused(folder(&[("a.tar", archive(&members))]).path());
        assert_eq!(found, ("dataset_malformed".to_owned(), format!("\"a.tar\" is no valid tar: {reason}")), "{what}");
    }
    for name in ["../1.jpg", "/1.jpg", "a/../1.jpg", "a//1.jpg", "a\\1.jpg", "1.jpg/"] {
        assert_eq!(refused(folder(&[("a.tar", archive(&[file(name, b"a")]))]).path()).0, "dataset_malformed", "{name}");
    }
}

#[test]
fn an_archive_of_files_that_are_no_samples_is_refused_before_each_name_becomes_a_field() {
    let members: Vec<Vec<u8>> = (0..1025).map(|number| file(&format!("frame.{number}.png"), b"")).collect();
    let (_, reason) = refused(folder(&[("a.tar", archive(&members))]).path());
    assert_eq!(reason, "\"a.tar\" is no valid tar: it has more than 1024 fields: names of its files are no key and field");
    assert_eq!(measure(folder(&[("a.tar", archive(&members[1..]))]).path()).fields().len(), 1024);
}

#[test]
fn a_sample_of_many_large_files_is_not_held() {
    let bodies: Vec<Vec<u8>> = (0..40).map(|number| vec![number; (1 << 20) - usize::from(number)]).collect();
    let names: Vec<String> = (0..40).map(|number| format!("{number}")).collect();
    let members: Vec<Vec<u8>> = names.iter().zip(&bodies).map(|(name, body)| file(&format!("a.{name}"), body)).collect();
    let measured = measure(folder(&[("a.tar", archive(&members))]).path());
    let fields: Vec<Field<'_>> = names.iter().zip(&bodies).map(|(name, body)| field(name, Value::Bytes(body))).collect();
    assert_eq!(entries(&measured, "default"), [(path_id("a"), digest(&fields))]);
}

#[test]
fn damage_to_any_header_of_an_archive_is_no_crash_also_under_the_right_sum() {
    let long = format!("{}/1.jpg\0", "deep".repeat(40));
    let members = [
        member(Form::Ustar, b'5', "sub/", b"", |_| ()),
        member(Form::Gnu, b'L', "././@LongLink", long.as_bytes(), |_| ()),
        member(Form::Gnu, b'0', "1.jpg", b"first", |_| ()),
        attributes(b'x', &[("mtime", "1.5"), ("path", "sub/2.jpg"), ("size", "6")]),
        file("2.jpg", b"second"),
    ];
    let whole = archive(&members);
    let dir = folder(&[("a.tar", &whole)]);
    let (path, original) = (dir.path().join("a.tar"), measure(dir.path()));
    let attempt = |bytes: &[u8]| {
        rewrite(&path, bytes);
        try_measure(dir.path())
    };
    let headers = [0, 512, 512 * 3, 512 * 5, 512 * 7];
    for (header, place, change) in
        headers.iter().flat_map(|&header| (0..512).flat_map(move |place| [1, 0xff].map(|change| (header, place, change))))
    {
        let mut damaged = whole.clone();
        damaged[header + place] ^= change;
        assert!(attempt(&damaged).is_err(), "a sum that does not hold: {header} + {place} ^ {change}");
        let mut block = tar::Header::new_old();
        block.as_mut_bytes().copy_from_slice(&damaged[header..header + 512]);
        block.set_cksum();
        damaged[header..header + 512].copy_from_slice(block.as_bytes());
        let _ = attempt(&damaged);
    }
    for end in 0..whole.len() {
        assert!(attempt(&whole[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(attempt(&whole).unwrap(), original);
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n");
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
}

#[test]
fn damage_to_any_byte_of_an_array_is_no_crash() {
    let whole = npy("<f4", "(3, 2)", &[1, 2, 3, 4].repeat(6));
    let dir = folder(&[("x.npy", &whole)]);
    let (path, original) = (dir.path().join("x.npy"), measure(dir.path()));
    for place in 0..whole.len() {
        for change in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = whole.clone();
            damaged[place] ^= change;
            rewrite(&path, &damaged);
            // Other quotes, and other white space, are the same header.
            let same = try_measure(dir.path()).is_ok_and(|measured| measured == original);
            assert!(!same || whole[place].is_ascii_whitespace(), "{place} ^ {change}");
        }
        rewrite(&path, &whole[..place]);
        assert!(try_measure(dir.path()).is_err(), "cut at {place}");
    }
}

#[test]
fn headers_of_arrays_that_numpy_takes_otherwise_or_that_never_end_are_refused() {
    let header = |text: &str, data: &[u8]| [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat();
    for (bytes, reason) in [
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'descr': '<i4'}", &[0; 4]), "its header has \"descr\" twice"),
        (header(&("[".repeat(40) + "1"), &[]), "its header has no '{' where there must be one"),
        (
            header(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {}", "[".repeat(4000)), &[]),
            "its header has no '(' where there must be one",
        ),
        ([&b"\x93NUMPY\x02\x00"[..], &[0xff; 4], b"{}"].concat(), "its header claims 4294967295 bytes, and at most 10000 are read"),
        (npy("|O", "(1,)", b"cposix\nsystem\n(S'true'\ntR."), "its elements are Python objects: pickles are never read"),
        (npy("<f4", "(4611686018427387905,)", &[0; 4]), "its shape and type need too many bytes, and it has 88"),
        (npy("<f4", "(1, 4611686018427387904, 4)", &[0; 4]), "its shape is too large"),
    ] {
        let found = refused(folder(&[("x.npy", bytes)]).path());
        assert_eq!(found, ("dataset_malformed".to_owned(), format!("\"x.npy\" is no valid npy: {reason}")));
    }
    // A pickle of that name is not looked into.
    assert_eq!(refused(folder(&[("x.npy", b"\x80\x04K\x01.")]).path()).0, "dataset_malformed");
}

#[test]
fn long_samples_of_arrays_are_hashed_piece_by_piece() {
    let floats: Vec<f64> = (0..3 * 150_000).map(f64::from).collect();
    let (little, big): (Vec<u8>, Vec<u8>) = floats.iter().map(|float| (float.to_le_bytes(), float.to_be_bytes())).fold(
        (Vec::new(), Vec::new()),
        |(mut little, mut big), (one, other)| {
            little.extend(one);
            big.extend(other);
            (little, big)
        },
    );
    let sample = |row: usize| {
        let bytes = &little[1_200_000 * row..1_200_000 * (row + 1)];
        digest(&[field("x", Value::Tensor { dtype: Dtype::from_name("F64").unwrap(), shape: &[300, 500], bytes })])
    };
    let expected: Vec<_> = (0..3).map(|row| (row as u64, sample(row))).collect();
    for bytes in [npy("<f8", "(3, 300, 500)", &little), npy(">f8", "(3, 300, 500)", &big)] {
        assert_eq!(entries(&measure(folder(&[("x.npy", bytes)]).path()), "default"), expected);
    }
    let halves: Vec<u8> = big.as_chunks::<8>().0.iter().flat_map(|bytes| [&bytes[4..], &bytes[..4]].concat()).collect();
    let complex = |order, bytes: &[u8]| measure(folder(&[("x.npy", npy(&format!("{order}c8"), "(3, 300, 500)", bytes))]).path());
    let swapped: Vec<u8> = halves.as_chunks::<4>().0.iter().flat_map(|half| half.iter().rev().copied().collect::<Vec<_>>()).collect();
    assert_eq!(complex(">", &halves), complex("<", &swapped), "a complex number is two numbers");

    let mut truths = vec![1; 2 * (3 << 20)];
    let whole = npy("|b1", "(2, 3145728)", &truths);
    let sample = Value::Tensor { dtype: Dtype::from_name("BOOL").unwrap(), shape: &[3 << 20], bytes: &truths[..3 << 20] };
    let expected = digest(&[field("x", sample)]);
    assert_eq!(entries(&measure(folder(&[("x.npy", whole)]).path()), "default"), [(0, expected), (1, expected)]);
    *truths.last_mut().unwrap() = 2;
    let (code, reason) = refused(folder(&[("x.npy", npy("|b1", "(2, 3145728)", &truths))]).path());
    assert_eq!(code, "sample_record");
    assert!(reason.starts_with("sample 1 of \"x.npy\": "), "{reason}");
}

#[test]
fn rows_of_arrays_are_numbered_the_same_in_parts_of_any_thread() {
    let rows: Vec<u8> = (0..20).flat_map(|row| vec![row; 1 << 20]).collect();
    let labels: Vec<u8> = (100..120).collect();
    let dir = folder(&[("x.npy", npy("|u1", "(20, 1048576)", &rows)), ("y.npy", npy("|u1", "(20,)", &labels))]);
    let u8 = Dtype::from_name("U8").unwrap();
    let sample = |row: usize| {
        let x = Value::Tensor { dtype: u8, shape: &[1 << 20], bytes: &rows[row << 20..(row + 1) << 20] };
        let y = Value::Tensor { dtype: u8, shape: &[], bytes: &labels[row..=row] };
        (row as u64, digest(&[field("x", x), field("y", y)]))
    };
    assert_eq!(entries(&measure(dir.path()), "default"), (0..20).map(sample).collect::<Vec<_>>());
}

#[test]
fn any_array_of_integers_may_hold_the_ids() {
    let x = npy("<f4", "(3,)", &[0; 12]);
    let (keys, signed) =
        (npy(">u2", "(3,)", &[0, 9, 1, 0, 0, 7]), npy("<i8", "(3,)", &[[1_i64, 2, -3].map(i64::to_le_bytes)].as_flattened().concat()));
    let dir = folder(&[("x.npy", &x), ("key.npy", &keys), ("id.npy", &signed)]);
    let with = |ids| {
        let options = ReadOptions { ids: Some(ids), ..ReadOptions::default() };
        Dataset::open(dir.path(), &options, &[])?.measure(2, &|_| ())
    };
    let ids = |rule| entries(&with(rule).unwrap(), "default").iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(IdRule::Column("key".to_owned())), [7, 9, 256]);
    assert_eq!(ids(IdRule::Ordinal), [0, 1, 2]);
    for (rule, reason) in [
        (IdRule::Column("x".to_owned()), "column \"x\": \"x.npy\" holds no integers that could be ids"),
        (IdRule::Column("no".to_owned()), "column \"no\": there is no such array, which should hold the ids"),
        (IdRule::Column("id".to_owned()), "column \"id\": row 2 has the id -3, and ids are not negative"),
        (IdRule::Path, "rows of arrays have no paths that could be their ids"),
    ] {
        assert_eq!(with(rule).unwrap_err().to_string(), reason);
    }
}

#[test]
fn a_folder_that_holds_more_than_some_programs_see_is_refused() {
    let csv = "x\n1\n";
    for (files, code, reason) in [
        (
            vec![("cat/1.png", "a"), (".other/2.png", "b")],
            "dataset_layout",
            "\".other/2.png\" is a hidden image, which some programs read and others do not: rename or remove it",
        ),
        (
            vec![("cat/1.png", "a"), (".cache/huggingface/2.png", "b")],
            "dataset_layout",
            "\".cache/huggingface/2.png\" is a hidden image, which some programs read and others do not: rename or remove it",
        ),
        (vec![("a.csv", csv), ("b.csv.gz", csv)], "dataset_layout", "\"b.csv.gz\" is compressed as a whole: files of samples are not"),
        (
            vec![("a.csv", csv), ("b.npy", "")],
            "dataset_layout",
            "samples are of one format, and here are CSV (\"a.csv\") and npy (\"b.npy\")",
        ),
        (vec![("cafe\u{301}.png", "a"), ("caf\u{e9}.png", "b")], "ambiguous_names", ""),
    ] {
        let (found, message) = refused(folder(&files).path());
        assert_eq!(found, code, "{message}");
        assert!(reason.is_empty() || message == reason, "{message}");
    }
    let dir = folder(&[("a.csv", csv)]);
    let _socket = UnixListener::bind(dir.path().join("b.csv")).unwrap();
    assert_eq!(refused(dir.path()).0, "special_file");
    let dir = folder(&[("a/1.png", "a")]);
    std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
    assert_eq!(refused(dir.path()).0, "symlink");
}

#[test]
fn notes_of_the_hub_and_hidden_tables_are_no_samples() {
    let files = [
        ("train.csv", "x\n1\n"),
        (".cache/huggingface/download/train.csv.metadata", "note"),
        (".ipynb_checkpoints/train.csv", "x\n2\n"),
        ("dataset.sig", "signature"),
        ("dataset.train.0123456789abcdef.samples", "table"),
    ];
    let dir = folder(&files);
    assert_eq!(measure(dir.path()).samples(), 1);
    let others: Vec<String> = open(dir.path()).unwrap().others().iter().map(ToString::to_string).collect();
    assert_eq!(others, [".ipynb_checkpoints/train.csv"]);
    // Who names a hidden file means it.
    assert_eq!(measure(&dir.path().join(".ipynb_checkpoints/train.csv")).samples(), 1);
}

#[test]
fn a_table_about_images_has_bounded_columns() {
    let names: String = (0..1025).map(|column| format!(",c{column}")).collect();
    let table = format!("file_name{names}\n1.png{}\n", ",".repeat(1025));
    let (code, reason) = refused(folder(&[("1.png", "a"), ("metadata.csv", &table)]).path());
    assert_eq!(
        (code.as_str(), reason.as_str()),
        ("dataset_layout", "\"metadata.csv\": a table about images has at most 1024 columns, and it has 1026")
    );
}

/// Measures a dataset, and lets `change` happen once its first part has been read.
fn measure_while(path: &Path, change: impl Fn() + Sync) -> Result<MeasuredDataset, DatasetError> {
    let is_first = AtomicBool::new(true);
    let progress = |_| {
        if is_first.swap(false, Ordering::Relaxed) {
            change();
        }
    };
    open(path)?.measure(1, &progress)
}

#[test]
fn files_that_change_while_others_are_read_are_noticed() {
    let names: Vec<String> = (0..300).map(|number| format!("cat/{number:03}.png")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "image")).collect();
    let dir = folder(&files);
    let error = measure_while(dir.path(), || fs::write(dir.path().join(&names[299]), "other image").unwrap()).unwrap_err();
    assert_eq!(error.code(), "file_changed_while_read");

    let dir = folder(&files);
    let replace = || {
        fs::write(dir.path().join("new"), "image").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join(&names[299])).unwrap();
    };
    assert_eq!(measure_while(dir.path(), replace).unwrap_err().code(), "file_changed_while_read");

    let dir = folder(&files);
    let error = measure_while(dir.path(), || fs::remove_file(dir.path().join(&names[299])).unwrap()).unwrap_err();
    assert_eq!(error.code(), "file_changed_while_read");
}

#[test]
fn an_archive_that_changes_where_it_was_read_already_is_noticed() {
    let members: Vec<Vec<u8>> = (0..5).map(|number| file(&format!("{number}.bin"), &vec![number; 16 << 20])).collect();
    let whole = archive(&members);
    let dir = folder(&[("a.tar", &whole)]);
    let change = || {
        let mut changed = whole.clone();
        changed[600] = 7;
        changed.extend([0; 512]);
        fs::write(dir.path().join("a.tar"), changed).unwrap();
    };
    assert_eq!(measure_while(dir.path(), change).unwrap_err().code(), "file_changed_while_read");
}

#[test]
fn a_folder_that_is_swapped_while_it_is_read_leads_nowhere_else() {
    let outer = folder(&[("data/a.csv", "x\n1\n"), ("other/a.csv", "x\n2\n")]);
    let dataset = open(&outer.path().join("data")).unwrap();
    fs::rename(outer.path().join("data"), outer.path().join("old")).unwrap();
    fs::rename(outer.path().join("other"), outer.path().join("data")).unwrap();
    let measured = dataset.measure(1, &|_| ()).unwrap();
    assert_eq!(entries(&measured, "default"), [(0, digest(&[field("x", Value::Integer(1))]))]);
}
