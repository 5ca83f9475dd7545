//! Which field of a sample is not the signed one, of which only the digest is known.
//!
//! A digest does not say what it was made of. But a label, a number or a truth value has few likely values: those are tried until
//! the record has the signed digest. A value of more than [`MAX_INLINE`] bytes cannot be guessed; if it is the only one of its kind, and
//! none of the others explains the difference, it is the likely one.

use sentry_hash::lattice::SampleDigest;

use super::{Field, Kind, MAX_INLINE, Value, encode};

/// Whole numbers that are tried, also spelled out: classes of labels.
const CLASSES: std::ops::Range<i64> = -1..4096;

/// The field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Culprit {
    /// With this value in this field, and no other change, the sample would be the signed one.
    Sure {
        /// The field.
        field: String,
        /// The signed value, as text that is not escaped.
        expected: String,
    },
    /// The only field that could not be tried.
    Likely {
        /// The field.
        field: String,
    },
}

/// Finds the one field of a sample that keeps it from having the digest `expected`. `others` has values of the same fields from other
/// samples, which are tried too: labels come again.
pub fn field_that_differs(fields: &[Field<'_>], expected: &SampleDigest, others: &[Field<'_>]) -> Option<Culprit> {
    let fields: Vec<Field<'_>> = fields.iter().map(hashed).collect();
    let mut tries = MOST_WORK / fields.iter().map(|field| count(&field.value)).sum::<usize>().max(1);
    let mut untried = Vec::new();
    for (place, field) in fields.iter().enumerate() {
        let candidates = candidates(field, others).filter(|candidates| candidates.len() <= tries);
        let Some(candidates) = candidates else {
            untried.push(field.name);
            continue;
        };
        tries -= candidates.len();
        for candidate in candidates {
            let mut tried = fields.clone();
            tried[place].value = candidate.value();
            if encode(&tried).is_ok_and(|record| SampleDigest::of_record(&record) == *expected) {
                return Some(Culprit::Sure { field: field.name.to_owned(), expected: candidate.to_string() });
            }
        }
    }
    match untried[..] {
        [only] => Some(Culprit::Likely { field: only.to_owned() }),
        _ => None,
    }
}

/// Values that are encoded in search of a field, at most: each try encodes all of a sample, of which a list may have thousands.
const MOST_WORK: usize = 1 << 18;

/// How many values there are in a value, itself included.
fn count(value: &Value<'_>) -> usize {
    match value {
        Value::List(values) => 1 + values.iter().map(count).sum::<usize>(),
        Value::Struct(fields) => 1 + fields.iter().map(|field| count(&field.value)).sum::<usize>(),
        _ => 1,
    }
}

/// The field with its long body hashed, so that this is done once.
fn hashed<'a>(field: &Field<'a>) -> Field<'a> {
    let digest =
        |bytes: &[u8]| *sentry_hash::Algorithm::Blake3.digest(bytes).as_bytes().first_chunk().expect("a BLAKE3 digest has 32 bytes");
    let value = match &field.value {
        Value::Tensor { dtype, shape, bytes } if bytes.len() as u64 > MAX_INLINE => {
            Value::Hashed { kind: Kind::Tensor(*dtype), shape, length: bytes.len() as u64, digest: digest(bytes) }
        }
        Value::Text(text) if text.len() as u64 > MAX_INLINE => {
            Value::Hashed { kind: Kind::Utf8, shape: &[], length: text.len() as u64, digest: digest(text.as_bytes()) }
        }
        Value::Bytes(bytes) if bytes.len() as u64 > MAX_INLINE => {
            Value::Hashed { kind: Kind::Bytes, shape: &[], length: bytes.len() as u64, digest: digest(bytes) }
        }
        other => other.clone(),
    };
    Field { name: field.name, value }
}

/// A value to be tried, with room of its own.
#[derive(Debug, Clone, PartialEq)]
enum Candidate {
    Null,
    Number { kind: Kind, bytes: Vec<u8> },
    Text(String),
    Bytes(Vec<u8>),
}

impl Candidate {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Number { kind: Kind::Tensor(dtype), bytes } => Value::Tensor { dtype: *dtype, shape: &[], bytes },
            Self::Number { bytes, .. } | Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Text(text) => Value::Text(text),
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("no value"),
            Self::Number { kind, bytes } => f.write_str(&number_text(kind.name(), bytes).unwrap_or_else(|| format!("{bytes:?}"))),
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => write!(f, "b'{}'", bytes.escape_ascii()),
        }
    }
}

/// What to try for a field; nothing for one that has too many values.
fn candidates(field: &Field<'_>, others: &[Field<'_>]) -> Option<Vec<Candidate>> {
    let own = candidate(&field.value)?;
    let others = others.iter().filter(|other| other.name == field.name).filter_map(|other| candidate(&other.value));
    let mut found = vec![Candidate::Null];
    found.extend(others);
    // A value that is missing was of the kind that other samples have.
    let like = found.iter().find(|other| own == Candidate::Null && **other != Candidate::Null).cloned();
    match like.unwrap_or(own) {
        Candidate::Null => {}
        Candidate::Number { kind, bytes } => {
            found.extend(flipped(&bytes).map(|bytes| Candidate::Number { kind, bytes }));
            let width = bytes.len();
            let is_float = kind.name().contains('F');
            found.extend(CLASSES.filter_map(|class| number_bytes(class, width, is_float)).map(|bytes| Candidate::Number { kind, bytes }));
        }
        Candidate::Text(text) => {
            found.extend(flipped(text.as_bytes()).filter_map(|bytes| String::from_utf8(bytes).ok()).map(Candidate::Text));
            found.extend(CLASSES.map(|class| Candidate::Text(class.to_string())));
        }
        Candidate::Bytes(bytes) => {
            found.extend(flipped(&bytes).map(Candidate::Bytes));
            found.extend(CLASSES.map(|class| Candidate::Bytes(class.to_string().into_bytes())));
        }
    }
    Some(found)
}

/// A short value, with room of its own.
fn candidate(value: &Value<'_>) -> Option<Candidate> {
    let number = |name, bytes: &[u8]| Kind::from_name(name).map(|kind| Candidate::Number { kind, bytes: bytes.to_vec() });
    match value {
        Value::Null => Some(Candidate::Null),
        Value::Bool(truth) => number("BOOL", &[u8::from(*truth)]),
        Value::Integer(integer) => number("I64", &integer.to_le_bytes()),
        Value::Float(float) => number("F64", &float.to_le_bytes()),
        Value::Tensor { dtype, shape: [], bytes } => number(dtype.name(), bytes),
        Value::Text(text) if text.len() as u64 <= MAX_INLINE => Some(Candidate::Text((*text).to_owned())),
        Value::Bytes(bytes) if bytes.len() as u64 <= MAX_INLINE => Some(Candidate::Bytes(bytes.to_vec())),
        _ => None,
    }
}

/// The bytes with one bit changed, each of them in turn.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let bytes = bytes.to_vec();
    (0..8 * bytes.len()).map(move |bit| {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// A whole number as a value of so many bytes, if it fits.
fn number_bytes(number: i64, width: usize, is_float: bool) -> Option<Vec<u8>> {
    match (width, is_float) {
        (4, true) => Some((number as f32).to_le_bytes().to_vec()),
        (8, true) => Some((number as f64).to_le_bytes().to_vec()),
        (1 | 2 | 4 | 8, false) => {
            let fits = width == 8 || (number < 1 << (8 * width) && number >= -(1 << (8 * width - 1)));
            fits.then(|| number.to_le_bytes()[..width].to_vec())
        }
        _ => None,
    }
}

/// A number as people write it.
fn number_text(kind: &str, bytes: &[u8]) -> Option<String> {
    Some(match (kind, bytes) {
        ("BOOL", [byte]) => (*byte != 0).to_string(),
        ("U8", [byte]) => byte.to_string(),
        ("I8", [byte]) => byte.cast_signed().to_string(),
        ("F32", bytes) => f32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        ("F64", bytes) => f64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        ("U16" | "U32" | "U64", bytes) => bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte)).to_string(),
        ("I16", bytes) => i16::from_le_bytes(bytes.try_into().ok()?).to_string(),
        ("I32", bytes) => i32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        ("I64", bytes) => i64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fields: &[Field<'_>]) -> SampleDigest {
        SampleDigest::of_record(&encode(fields).unwrap())
    }

    fn sure(field: &str, expected: &str) -> Option<Culprit> {
        Some(Culprit::Sure { field: field.to_owned(), expected: expected.to_owned() })
    }

    fn pet<'a>(image: &'a [u8], label: i64, text: &'a str) -> [Field<'a>; 3] {
        [
            Field { name: "image", value: Value::Bytes(image) },
            Field { name: "label", value: Value::Integer(label) },
            Field { name: "name", value: Value::Text(text) },
        ]
    }

    #[test]
    fn a_flipped_label_is_found_with_the_signed_one() {
        let image = [7; 3000];
        let signed = digest(&pet(&image, 3, "cat"));
        assert_eq!(field_that_differs(&pet(&image, 5, "cat"), &signed, &[]), sure("label", "3"));
        assert_eq!(field_that_differs(&pet(&image, 3 ^ 1 << 60, "cat"), &signed, &[]), sure("label", "3"));
        assert_eq!(field_that_differs(&pet(&image, 3, "bat"), &signed, &[]), sure("name", "cat"));
    }

    fn likely() -> Option<Culprit> {
        Some(Culprit::Likely { field: "image".to_owned() })
    }

    #[test]
    fn text_is_looked_for_among_that_of_other_samples() {
        let image = [7; 3000];
        let signed = digest(&pet(&image, 3, "dog"));
        let other = pet(&image, 9, "dog");
        assert_eq!(field_that_differs(&pet(&image, 3, "cat"), &signed, &[]), likely());
        assert_eq!(field_that_differs(&pet(&image, 3, "cat"), &signed, &other), sure("name", "dog"));
    }

    #[test]
    fn a_value_that_is_missing_is_looked_for_among_the_kind_of_others() {
        let sample = |value| [Field { name: "label", value }];
        let other = sample(Value::Integer(1));
        let signed = digest(&sample(Value::Integer(5)));
        assert_eq!(field_that_differs(&sample(Value::Null), &signed, &other), sure("label", "5"));
        assert_eq!(field_that_differs(&sample(Value::Null), &signed, &[]), None);
    }

    #[test]
    fn long_lists_are_not_searched_for_long() {
        let sample = |label, length: i64| {
            [
                Field { name: "label", value: Value::Integer(label) },
                Field { name: "list", value: Value::List((0..length).map(Value::Integer).collect()) },
            ]
        };
        assert_eq!(field_that_differs(&sample(5, 10), &digest(&sample(3, 10)), &[]), sure("label", "3"));
        // Each try would encode a million values.
        assert_eq!(field_that_differs(&sample(5, 1 << 20), &digest(&sample(3, 1 << 20)), &[]), None);
    }

    #[test]
    fn numbers_that_are_spelled_out_are_tried() {
        let sample = |label| [Field { name: "cls", value: Value::Bytes(label) }, Field { name: "png", value: Value::Bytes(&[7; 300]) }];
        assert_eq!(field_that_differs(&sample(b"8"), &digest(&sample(b"417")), &[]), sure("cls", "b'417'"));
    }

    #[test]
    fn a_long_value_is_likely_only_if_it_is_alone() {
        let (image, other, text) = ([7; 3000], [8; 3000], "long ".repeat(30));
        let signed = digest(&pet(&image, 3, "dog"));
        assert_eq!(field_that_differs(&pet(&other, 3, "dog"), &signed, &[]), likely());
        let signed = digest(&pet(&image, 3, &text));
        assert_eq!(field_that_differs(&pet(&other, 3, &text), &signed, &[]), None);
        assert_eq!(field_that_differs(&pet(&image, 4, &text), &signed, &[]), sure("label", "3"));
    }

    #[test]
    fn numbers_of_every_width_are_tried() {
        for (name, found, expected, text) in [
            ("U8", vec![200], vec![3], "3"),
            ("I8", vec![2], vec![255], "-1"),
            ("I16", vec![2, 0], vec![7, 1], "263"),
            ("I32", vec![2, 0, 0, 0], vec![255; 4], "-1"),
            ("F32", 1f32.to_le_bytes().to_vec(), 9f32.to_le_bytes().to_vec(), "9"),
            ("F64", 1f64.to_le_bytes().to_vec(), 0f64.to_le_bytes().to_vec(), "0"),
            ("BOOL", vec![0], vec![1], "true"),
        ] {
            let dtype = crate::safetensors::Dtype::from_name(name).unwrap();
            let sample = |bytes| [Field { name: "x", value: Value::Tensor { dtype, shape: &[], bytes } }];
            assert_eq!(field_that_differs(&sample(&found), &digest(&sample(&expected)), &[]), sure("x", text), "{name}");
        }
    }
}
