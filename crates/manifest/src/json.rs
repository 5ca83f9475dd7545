//! Strict JSON: one meaning, whoever reads it.
//!
//! Two parsers that disagree on a document let one signature say two things. So besides what `serde_json`
//! refuses anyway (trailing text, lone surrogates, bad UTF-8, `NaN`), a key must not occur twice in an
//! object, and nesting is bounded.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::MAX_JSON_DEPTH;
use crate::path::printable_sentence;

/// A document that is not strict JSON, or not of the form asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON at all.
    #[error("invalid JSON: {reason}")]
    Invalid {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    #[error("JSON nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// A key occurs twice in one object.
    #[error("the key \"{key}\" occurs twice in one JSON object")]
    DuplicateKey {
        /// The key, escaped for printing.
        key: String,
    },
    /// JSON, but a field is missing, unknown or of the wrong type.
    #[error("{reason}")]
    Field {
        /// What is missing or wrong, with line and column.
        reason: String,
    },
}

/// Parses a strict document, which is an object, into `T`.
///
/// # Errors
/// Every variant of [`JsonError`].
pub fn parse<T: serde::de::DeserializeOwned>(document: &[u8]) -> Result<T, JsonError> {
    check(document)?;
    read(document)
}

/// Parses a part of a strict document, which is an object, into `T`. Every part of such a document is strict.
///
/// # Errors
/// [`JsonError::Field`].
pub fn parse_part<T: serde::de::DeserializeOwned>(part: &RawValue) -> Result<T, JsonError> {
    read(part.get().as_bytes())
}

fn read<T: serde::de::DeserializeOwned>(document: &[u8]) -> Result<T, JsonError> {
    let parsed: Result<Object<T>, _> = serde_json::from_slice(document);
    parsed.map(|Object(value)| value).map_err(|error| JsonError::Field { reason: printable_sentence(&error.to_string()) })
}

/// A `T` that is written as a JSON object. What `serde` derives for a struct would also take an array of its fields,
/// which no other reader does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

/// Checks that `document` is one strict JSON value.
fn check(document: &[u8]) -> Result<(), JsonError> {
    check_depth(document)?;
    let duplicate = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(document);
    let parsed = UniqueKeys(&duplicate).deserialize(&mut parser).and_then(|()| parser.end());
    match (parsed, duplicate.into_inner()) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(key)) => Err(JsonError::DuplicateKey { key: crate::printable(&key) }),
        (Err(error), None) => Err(JsonError::Invalid { reason: printable_sentence(&error.to_string()) }),
    }
}

/// Bounds the nesting before a recursive parser sees the document.
fn check_depth(document: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return Err(JsonError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A key, in the document where it is written without escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of an object so far: most have a few, and a list of those is faster than a set.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    more: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 8;

    /// Adds a key, or gives it back if it is there already.
    fn insert(&mut self, key: Cow<'a, str>) -> Result<(), Cow<'a, str>> {
        if self.few.contains(&key) || self.more.contains(&key) {
            return Err(key);
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
        } else {
            self.more.insert(key);
        }
        Ok(())
    }
}

/// Walks any value and refuses objects with a repeated key, which it notes.
#[derive(Clone, Copy)]
struct UniqueKeys<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for UniqueKeys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            // Names under which serde_json passes its own values to itself.
            if key.starts_with("$serde_json::") {
                return Err(A::Error::custom("reserved key"));
            }
            if let Err(key) = keys.insert(key) {
                *self.0.borrow_mut() = Some(key.into_owned());
                return Err(A::Error::custom("duplicate key"));
            }
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_documents_only() {
        for good in ["{}", "[1, 2.5, null, true, \"a\\\"[\"]", r#"{"a": {"b": 1}, "c": {"b": 2}}"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["", " ", "{} {}", "{", "[1,]", "nul", "\"\\ud800\"", "NaN", "01", "{a:1}", "'a'"] {
            assert!(matches!(check(bad.as_bytes()), Err(JsonError::Invalid { .. })), "{bad}");
        }
        assert!(matches!(check(b"\"\xff\""), Err(JsonError::Invalid { .. })));
    }

    #[test]
    fn a_struct_is_an_object_and_never_an_array() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            inner: Object<Inner>,
            list: Vec<Object<Inner>>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Inner {
            number: u64,
        }
        let outer: Outer = parse(br#"{"inner":{"number":1},"list":[{"number":2}]}"#).unwrap();
        assert_eq!(outer, Outer { inner: Object(Inner { number: 1 }), list: vec![Object(Inner { number: 2 })] });
        for bad in [r#"[{"number":1},[]]"#, r#"{"inner":[1],"list":[]}"#, r#"{"inner":{"number":1},"list":[[2]]}"#] {
            assert!(matches!(parse::<Outer>(bad.as_bytes()), Err(JsonError::Field { .. })), "{bad}");
        }
    }

    #[test]
    fn the_parsers_own_names_are_refused() {
        let smuggled = br#"{"a":{"$serde_json::private::RawValue":"{\"b\":1,\"b\":2}"}}"#;
        assert!(matches!(check(smuggled), Err(JsonError::Invalid { .. })));
    }

    #[test]
    fn a_repeated_key_is_found_at_any_depth_and_in_any_spelling() {
        // Also in objects of so many keys that they are kept in another way, early and late.
        let many = |repeated: &str| format!("{{{}{repeated}:0}}", (0..20).map(|i| format!("\"{i}\":0,")).collect::<String>());
        assert_eq!(check(many("\"20\"").as_bytes()), Ok(()));
        for (repeated, key) in [("\"3\"", "3"), ("\"19\"", "19"), (r#""\u0031""#, "1")] {
            assert_eq!(check(many(repeated).as_bytes()), Err(JsonError::DuplicateKey { key: key.into() }));
        }
        for bad in [r#"{"a":1,"a":1}"#, r#"[{"x":[{"a":1,"b":2,"a":3}]}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(check(bad.as_bytes()), Err(JsonError::DuplicateKey { key: "a".into() }), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(nested(MAX_JSON_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(MAX_JSON_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(check(nested(10_000_000).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(check(format!("{:?}", "[".repeat(100)).as_bytes()), Ok(()));
    }
}
