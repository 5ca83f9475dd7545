//! Records of samples against the vectors of the slow reference.

use std::path::Path;

use data_encoding::HEXLOWER;
use sentry_hash::Algorithm;
use sentry_hash::lattice::SampleDigest;
use sentry_manifest::record::{Field, Kind, ParsedBody, ParsedField, ParsedValue, RecordError, Value, encode, parse};
use sentry_manifest::safetensors::Dtype;
use serde_json::Value as Json;

fn vectors() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/sentry/records.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn list(value: &Json) -> &[Json] {
    value.as_array().expect("a list")
}

fn text(value: &Json) -> &str {
    value.as_str().expect("text")
}

fn hex(value: &Json) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).unwrap()
}

/// Described values borrow from these bytes and shapes, which live as long as the test.
fn leak<T>(items: Vec<T>) -> &'static [T] {
    items.leak()
}

fn described_fields(value: &Json) -> Vec<Field<'_>> {
    list(value).iter().map(|field| Field { name: text(&field["name"]), value: described(field) }).collect()
}

fn described(value: &Json) -> Value<'_> {
    let bytes = || match value.get("period251") {
        Some(length) => leak((0..length.as_u64().unwrap()).map(|i| (i % 251) as u8).collect()),
        None => leak(hex(&value["bytes"])),
    };
    match text(&value["dtype"]) {
        "UTF8" => Value::Text(std::str::from_utf8(bytes()).unwrap()),
        "BYTES" => Value::Bytes(bytes()),
        "NULL" => Value::Null,
        "STRUCT" => Value::Struct(described_fields(&value["fields"])),
        "LIST" => Value::List(list(&value["values"]).iter().map(described).collect()),
        dtype => {
            let shape = value.get("dims").map(|dims| list(dims).iter().map(|dim| dim.as_u64().unwrap()).collect());
            Value::Tensor { dtype: Dtype::from_name(dtype).unwrap(), shape: leak(shape.unwrap_or_default()), bytes: bytes() }
        }
    }
}

#[test]
fn samples_have_their_record_and_digest() {
    let vectors = vectors();
    let valid = list(&vectors["valid"]);
    assert_eq!(valid.len(), 137);
    for vector in valid {
        let mut fields = described_fields(&vector["fields"]);
        let expected = hex(&vector["record"]);
        for _ in 0..fields.len() {
            assert_eq!(encode(&fields).as_deref(), Ok(&expected[..]), "{}", vector["what"]);
            fields.rotate_left(1);
        }
        assert_eq!(SampleDigest::of_record(&expected).to_string(), text(&vector["sample_digest"]), "{}", vector["what"]);
    }
}

#[test]
fn a_record_says_what_was_recorded() {
    let vectors = vectors();
    for vector in list(&vectors["valid"]) {
        let record = hex(&vector["record"]);
        let parsed = parse(&record).unwrap_or_else(|error| panic!("{}: {error}", vector["what"]));
        let mut described: Vec<&Json> = list(&vector["fields"]).iter().collect();
        described.sort_by_key(|field| text(&field["name"]).as_bytes());
        assert_fields(&parsed, &described);
    }
}

fn assert_fields(parsed: &[ParsedField<'_>], described: &[&Json]) {
    assert_eq!(parsed.len(), described.len());
    for (field, described) in parsed.iter().zip(described) {
        assert_eq!(field.name, text(&described["name"]));
        assert_value(&field.value, described);
    }
}

fn assert_value(parsed: &ParsedValue<'_>, described: &Json) {
    assert_eq!(parsed.kind.name(), text(&described["dtype"]));
    match &parsed.body {
        ParsedBody::Bytes(bytes) => assert_eq!(*bytes, hex(&described["bytes"])),
        ParsedBody::Fields(fields) => {
            let mut described: Vec<&Json> = list(&described["fields"]).iter().collect();
            described.sort_by_key(|field| text(&field["name"]).as_bytes());
            assert_fields(fields, &described);
        }
        ParsedBody::Values(values) => {
            let described = list(&described["values"]);
            assert_eq!(values.len(), described.len());
            values.iter().zip(described).for_each(|(value, described)| assert_value(value, described));
        }
        ParsedBody::Digest(_) => assert!(parsed.length > 64),
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let vectors = vectors();
    let invalid = list(&vectors["invalid"]);
    assert_eq!(invalid.len(), 45);
    for vector in invalid {
        assert!(parse(&hex(&vector["record"])).is_err(), "{}", vector["reason"]);
    }
}

/// Every prefix of a record is cut somewhere, and no byte can follow it.
#[test]
fn a_record_ends_where_it_ends() {
    let fields = [Field { name: "a", value: Value::Integer(1) }, Field { name: "b", value: Value::Bytes(&[7; 100]) }];
    let record = encode(&fields).unwrap();
    let first = encode(&fields[..1]).unwrap().len();
    for length in (0..record.len()).filter(|&length| length != first) {
        assert!(parse(&record[..length]).is_err(), "{length} bytes");
    }
    for byte in 0..=255 {
        assert!(parse(&[&record[..], &[byte]].concat()).is_err());
    }
}

#[test]
fn plain_numbers_have_the_widest_type() {
    let plain = [Value::Bool(true), Value::Integer(-2), Value::Float(0.1)];
    let typed: [(&str, &[u8]); 3] = [("BOOL", &[1]), ("I64", &(-2_i64).to_le_bytes()), ("F64", &0.1_f64.to_le_bytes())];
    for (plain, (dtype, bytes)) in plain.into_iter().zip(typed) {
        let tensor = Value::Tensor { dtype: Dtype::from_name(dtype).unwrap(), shape: &[], bytes };
        let record = |value| encode(&[Field { name: "x", value }]).unwrap();
        assert_eq!(record(plain), record(tensor), "{dtype}");
    }
}

#[test]
fn a_sample_that_cannot_be_recorded_is_refused() {
    let dtype = |name| Dtype::from_name(name).unwrap();
    let one = |value: Value<'_>| encode(&[Field { name: "x", value }]).map(|_| ());
    let named = |name: &str| encode(&[Field { name, value: Value::Null }]).map(|_| ());
    assert_eq!(encode(&[]), Err(RecordError::NoFields));
    assert_eq!(named(""), Err(RecordError::FieldName { length: 0 }));
    assert_eq!(named(&"n".repeat(4096)), Ok(()));
    assert_eq!(named(&"n".repeat(4097)), Err(RecordError::FieldName { length: 4097 }));
    let twice = ["a", "b", "a"].map(|name| Field { name, value: Value::Null });
    assert_eq!(encode(&twice), Err(RecordError::RepeatedField { name: "a".into() }));
    assert_eq!(one(Value::Struct(twice.to_vec())), Err(RecordError::RepeatedField { name: "a".into() }));
    let bool_of_two = Value::Tensor { dtype: dtype("BOOL"), shape: &[1], bytes: &[2] };
    assert_eq!(one(bool_of_two.clone()), Err(RecordError::Bool));
    assert_eq!(one(Value::List(vec![Value::Null, bool_of_two])), Err(RecordError::Bool));
    let short = Value::Tensor { dtype: dtype("F32"), shape: &[2, 2], bytes: &[0; 15] };
    assert_eq!(one(short), Err(RecordError::Shape { kind: "F32", shape: vec![2, 2], length: 15 }));
    let shape = [1; 65];
    let flat = |dimensions: usize| Value::Tensor { dtype: dtype("U8"), shape: &shape[..dimensions], bytes: &[0] };
    assert_eq!((one(flat(64)), one(flat(65))), (Ok(()), Err(RecordError::Dimensions { found: 65 })));
}

/// A list in a list, as many levels deep.
fn nested(levels: usize) -> Value<'static> {
    (1..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

#[test]
fn depth_and_number_of_fields_are_bounded() {
    let of = |value| encode(&[Field { name: "x", value }]);
    assert!(parse(&of(nested(32)).unwrap()).is_ok());
    assert_eq!(of(nested(33)), Err(RecordError::TooDeep));

    let names: Vec<String> = (0..65_537).map(|number| format!("{number:05}")).collect();
    let fields: Vec<Field<'_>> = names.iter().map(|name| Field { name, value: Value::Null }).collect();
    let record = encode(&fields[..65_536]).unwrap();
    assert_eq!(parse(&record).unwrap().len(), 65_536);
    assert_eq!(encode(&fields), Err(RecordError::TooManyFields));
    let last = encode(&fields[65_536..]).unwrap();
    assert_eq!(parse(&[record, last].concat()), Err(RecordError::TooManyFields));
}

#[test]
fn a_value_whose_digest_is_known_makes_the_same_record() {
    let (text, image) = ("long ".repeat(30), vec![7; 3000]);
    let digest = |bytes: &[u8]| *Algorithm::Blake3.digest(bytes).as_bytes().first_chunk().unwrap();
    let plain = encode(&[Field { name: "image", value: Value::Bytes(&image) }, Field { name: "text", value: Value::Text(&text) }]);
    let hashed = |kind, bytes: &[u8]| Value::Hashed { kind, shape: &[], length: bytes.len() as u64, digest: digest(bytes) };
    let image = Field { name: "image", value: hashed(Kind::Bytes, &image) };
    let text = Field { name: "text", value: hashed(Kind::Utf8, text.as_bytes()) };
    assert_eq!(encode(&[text, image]), plain);
}

#[test]
fn only_long_values_without_parts_may_be_given_by_their_digest() {
    let refused = |kind, shape: &'static [u64], length| {
        let value = Value::Hashed { kind, shape, length, digest: [0; 32] };
        matches!(encode(&[Field { name: "x", value }]), Err(RecordError::Shape { .. }))
    };
    assert!(refused(Kind::Bytes, &[], 64) && !refused(Kind::Bytes, &[], 65));
    assert!(refused(Kind::Bytes, &[65], 65) && refused(Kind::Null, &[], 65));
    assert!(refused(Kind::Struct, &[], 65) && refused(Kind::List, &[1], 65));
    let floats = Kind::from_name("F32").unwrap();
    assert!(refused(floats, &[17], 69) && !refused(floats, &[17], 68));
}
