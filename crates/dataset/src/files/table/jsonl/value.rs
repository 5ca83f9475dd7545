//! Strict values of JSON.

use std::fmt;

use sentry_manifest::printable;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value as it stands in a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    /// Sorted by key, each of which is there once.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The object of one line.
    pub fn parse_line(line: &[u8]) -> Result<Self, String> {
        let parsed: Self = serde_json::from_slice(line).map_err(|error| reason(&error))?;
        if !matches!(parsed, Self::Object(_)) {
            return Err(format!("an object is expected, and this is {}", parsed.name()));
        }
        check_integers(line)?;
        Ok(parsed)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a float",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// What the parser says, without the line, which is always the first.
fn reason(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "it ends too early".to_owned();
    }
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what}, at column {}", error.column()),
        None => text,
    }
}

/// The parser makes a float of a whole number that 64 bits do not hold, which is another number. Looks for such in valid JSON.
fn check_integers(line: &[u8]) -> Result<(), String> {
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'"' => after_text(after),
            b'-' | b'0'..=b'9' => {
                let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
                let digits = number.strip_prefix(b"-").unwrap_or(number);
                let text = std::str::from_utf8(number).unwrap_or("");
                if digits.iter().all(u8::is_ascii_digit) && text.parse::<i64>().is_err() {
                    return Err(format!("the number {} is none of 64 bits", printable(text)));
                }
                after
            }
            _ => after,
        };
    }
    Ok(())
}

/// What follows the text that these bytes begin in.
fn after_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let is_end = rest[at] == b'"';
        rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or(&[]);
        if is_end {
            return rest;
        }
    }
    &[]
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E: Error>(self, integer: i64) -> Result<Json, E> {
        Ok(Json::Integer(integer))
    }

    fn visit_u64<E: Error>(self, integer: u64) -> Result<Json, E> {
        i64::try_from(integer).map(Json::Integer).map_err(|_| E::custom(format!("the number {integer} is none of 64 bits")))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Json, E> {
        Ok(Json::Float(float))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        match fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(A::Error::custom(format!("the key \"{}\" occurs twice", printable(&pair[0].0)))),
            None => Ok(Json::Object(fields)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_say() {
        let parsed =
            Json::parse_line(b"{\"b\": [1, 2.0, -0.5e1, null], \"a\": {\"t\": true, \"\\u00fc\": \"\\\"1234567890123456789012\\\\\"}}\r\n")
                .unwrap();
        let list = Json::List(vec![Json::Integer(1), Json::Float(2.0), Json::Float(-5.0), Json::Null]);
        let object =
            Json::Object(vec![("t".to_owned(), Json::Bool(true)), ("ü".to_owned(), Json::Text("\"1234567890123456789012\\".to_owned()))]);
        assert_eq!(parsed, Json::Object(vec![("a".to_owned(), object), ("b".to_owned(), list)]));
    }

    #[test]
    fn floats_are_the_nearest() {
        // Fast parsers are wrong in the last bit of these.
        for text in ["1.0715660670772123e-307", "9007199254740993.0", "2.2250738585072011e-308", "0.1", "1e23"] {
            let parsed = Json::parse_line(format!("{{\"x\":{text}}}").as_bytes()).unwrap();
            assert_eq!(parsed, Json::Object(vec![("x".to_owned(), Json::Float(text.parse().unwrap()))]), "{text}");
        }
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        for (line, expected) in [
            ("{\"a\": 1, \"a\": 1}", "the key \"a\" occurs twice"),
            ("{\"b\": {\"a\": 1, \"\\u0061\": 2}}", "the key \"a\" occurs twice"),
            ("{\"a\": 9223372036854775808}", "is none of 64 bits"),
            ("{\"a\": -9223372036854775809}", "is none of 64 bits"),
            ("{\"a\": 123456789012345678901234567890}", "is none of 64 bits"),
            ("{\"a\": NaN}", "expected value"),
            ("{\"a\": \"\\ud800\"}", "hex escape"),
            ("{\"a\": 1} {\"a\": 1}", "trailing characters"),
            ("{\"a\": 01}", "invalid number"),
            ("{\"a\": 1e999}", "out of range"),
            ("[1]", "an object is expected, and this is a list"),
            ("\n", "ends too early"),
            ("{\"a\": 1", "ends too early"),
            ("\u{feff}{}", "expected value"),
        ] {
            let error = Json::parse_line(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert!(Json::parse_line(b"{\"a\": \"\xff\"}").is_err());
        assert!(Json::parse_line("[".repeat(100_000).as_bytes()).is_err());
    }
}
