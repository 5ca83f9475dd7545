//! The header of an `.npy` file (NEP 1): a Python dictionary of three keys, in the one form that is written.
//!
//! NumPy evaluates any literal here. A key that is there twice, an escaped letter or a nested bracket could make its array another than
//! ours, and a reader of all literals can be nested until its stack is full. So what nobody writes is refused.

use sentry_manifest::limits::MAX_DIMENSIONS;
use sentry_manifest::printable;
use sentry_manifest::safetensors::Dtype;

/// What a file begins with, before its version.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header in bytes; NumPy refuses longer ones too.
pub const MAX_HEADER: usize = 10_000;

/// Bytes before the text of a header at most: magic, version, and the text's length.
pub const MAX_START: usize = 12;

/// What an `.npy` file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub dtype: Dtype,
    pub is_big_endian: bool,
    pub is_fortran: bool,
    pub shape: Vec<u64>,
    /// Where the data begin.
    pub start: u64,
}

impl Header {
    /// Reads the header at the beginning of `head`: all of the file, or at least [`MAX_START`] and [`MAX_HEADER`] bytes of it.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(head: &[u8]) -> Result<Self, String> {
        let rest = head.strip_prefix(MAGIC).ok_or("it does not begin like one")?;
        let (version, rest) = rest.split_first_chunk().ok_or("it is cut off")?;
        let (length, rest) = match version {
            [1, 0] => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
            [2 | 3, 0] => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
            [major, minor] => return Err(format!("its version is {major}.{minor}, which is not known")),
        }
        .ok_or("it is cut off")?;
        if length > MAX_HEADER {
            return Err(format!("its header claims {length} bytes, and at most {MAX_HEADER} are read"));
        }
        let text = rest.get(..length).ok_or("it is cut off")?;
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii()).ok_or("its header is not ASCII")?;
        let start = (head.len() - rest.len() + length) as u64;
        Parser { rest: text }.dictionary(start)
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn dictionary(mut self, start: u64) -> Result<Header, String> {
        let (mut descr, mut order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.has('}') {
            let key = self.text()?;
            self.expect(':')?;
            let is_repeated = match key {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => order.replace(self.truth()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                other => return Err(format!("its header has the key \"{}\"", printable(other))),
            };
            if is_repeated {
                return Err(format!("its header has \"{key}\" twice"));
            }
            if !self.has(',') {
                self.expect('}')?;
                break;
            }
        }
        if !self.rest.trim_ascii().is_empty() {
            return Err("something follows the dictionary in its header".to_owned());
        }
        let missing = || "its header lacks a key".to_owned();
        let (dtype, is_big_endian) = descr.ok_or_else(missing)?;
        Ok(Header { dtype, is_big_endian, is_fortran: order.ok_or_else(missing)?, shape: shape.ok_or_else(missing)?, start })
    }

    /// Takes `mark`, if it comes next.
    fn has(&mut self, mark: char) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        if self.has(mark) { Ok(()) } else { Err(format!("its header has no '{mark}' where there must be one")) }
    }

    /// Text without escapes.
    fn text(&mut self) -> Result<&'a str, String> {
        let quote = if self.has('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect(quote)?;
        }
        let (text, rest) = self.rest.split_once(quote).ok_or("its header has a text without an end")?;
        self.rest = rest;
        if text.contains(['\\', '\n', '\r']) { Err("its header has a text with escapes".to_owned()) } else { Ok(text) }
    }

    fn truth(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_ascii_start();
        let (truth, rest) = match (self.rest.strip_prefix("True"), self.rest.strip_prefix("False")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("its header does not say the order".to_owned()),
        };
        self.rest = rest;
        Ok(truth)
    }

    /// Type and byte order of elements.
    fn descr(&mut self) -> Result<(Dtype, bool), String> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.starts_with(['[', '(', '{']) {
            return Err("its elements are structures".to_owned());
        }
        let descr = self.text()?;
        if descr.get(1..).is_some_and(|kind| kind.starts_with('O')) {
            return Err("its elements are Python objects: pickles are never read".to_owned());
        }
        let unsigned = || format!("elements of type {} cannot be signed", printable(descr));
        let kind = descr.strip_prefix(['<', '>', '|']).ok_or_else(unsigned)?;
        let name = match kind {
            "b1" => "BOOL",
            "i1" => "I8",
            "u1" => "U8",
            // An order of bytes is needed where there are several.
            _ if descr.starts_with('|') => return Err(unsigned()),
            "i2" => "I16",
            "i4" => "I32",
            "i8" => "I64",
            "u2" => "U16",
            "u4" => "U32",
            "u8" => "U64",
            "f2" => "F16",
            "f4" => "F32",
            "f8" => "F64",
            "c8" => "C64",
            _ => return Err(unsigned()),
        };
        Ok((Dtype::from_name(name).expect("a type of the format"), descr.starts_with('>')))
    }

    /// Numbers between parentheses, of which one by itself has a comma.
    fn shape(&mut self) -> Result<Vec<u64>, String> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.has(')') {
            shape.push(self.number()?);
            if shape.len() > MAX_DIMENSIONS + 1 {
                return Err(format!("it has more than {MAX_DIMENSIONS} dimensions beside that of its samples"));
            }
            if !self.has(',') {
                self.expect(')')?;
                if shape.len() == 1 {
                    return Err("its shape is a number".to_owned());
                }
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<u64, String> {
        self.rest = self.rest.trim_ascii_start();
        let end = self.rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        let number = digits.parse().ok().filter(|_| digits == "0" || !digits.starts_with('0'));
        number.ok_or_else(|| "its shape has something else than numbers below 2^64".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let length = text.len() as u32;
        let length = if version == 1 { length.to_le_bytes()[..2].to_vec() } else { length.to_le_bytes().to_vec() };
        [&MAGIC[..], &[version, 0], &length, text.as_bytes(), b"data"].concat()
    }

    #[test]
    fn headers_are_read_as_numpy_and_others_write_them() {
        let expected =
            Header { dtype: Dtype::from_name("F32").unwrap(), is_big_endian: false, is_fortran: false, shape: vec![3, 20], start: 0 };
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 20), }      \n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 20)}",
            "{\"shape\":(3,20,),\"descr\":\"<f4\",\"fortran_order\":False}",
            " {'shape' : ( 3 , 20 ) , 'fortran_order' :\tFalse , 'descr' : '<f4' , } \n",
        ] {
            for (version, before) in [(1, 10), (2, 12), (3, 12)] {
                let start = before + text.len() as u64;
                assert_eq!(Header::parse(&file(version, text)).unwrap(), Header { start, ..expected.clone() }, "{text}");
            }
        }
        for (shape, expected) in [("()", &[][..]), ("(7,)", &[7]), ("(0, 18446744073709551615)", &[0, u64::MAX])] {
            let text = format!("{{'descr': '>u2', 'fortran_order': True, 'shape': {shape}, }}");
            let header = Header::parse(&file(1, &text)).unwrap();
            assert_eq!((header.shape.as_slice(), header.is_big_endian, header.is_fortran), (expected, true, true));
        }
    }

    #[test]
    fn what_nobody_writes_is_refused() {
        for (text, reason) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'descr': '<i4'}", "its header has \"descr\" twice"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'shape': (1, 3)}", "its header has \"shape\" twice"),
            ("{'d\\x65scr': '<f4', 'fortran_order': False, 'shape': (3,)}", "its header has a text with escapes"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}", "its header has the key \"more\""),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", "its shape is a number"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (03,)}", "its shape has something else than numbers below 2^64"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "its shape has something else than numbers below 2^64"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1_0,)}", "its header has no ')' where there must be one"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616,)}",
                "its shape has something else than numbers below 2^64",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", "its shape has something else than numbers below 2^64"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", "its header does not say the order"),
            ("{'descr': '<f4', 'shape': (3,)}", "its header lacks a key"),
            ("{'descr': '<f4' 'fortran_order': False, 'shape': (3,)}", "its header has no '}' where there must be one"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} or 1", "something follows the dictionary in its header"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)", "its header has no '}' where there must be one"),
            ("{'descr': '=f4', 'fortran_order': False, 'shape': (3,)}", "elements of type =f4 cannot be signed"),
            ("{'descr': '|f4', 'fortran_order': False, 'shape': (3,)}", "elements of type |f4 cannot be signed"),
            ("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (3,)}", "elements of type <M8[ns] cannot be signed"),
            ("{'descr': '', 'fortran_order': False, 'shape': (3,)}", "elements of type  cannot be signed"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "its elements are structures"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "its elements are Python objects: pickles are never read"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}\u{e9}", "its header is not ASCII"),
            ("((((((((", "its header has no '{' where there must be one"),
            ("", "its header has no '{' where there must be one"),
        ] {
            assert_eq!(Header::parse(&file(1, text)).unwrap_err(), reason, "{text}");
        }
        let dimensions = "1, ".repeat(MAX_DIMENSIONS + 2);
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dimensions})}}");
        assert!(Header::parse(&file(1, &text)).unwrap_err().contains("more than 64 dimensions"));
        let long = " ".repeat(MAX_HEADER + 1);
        assert!(Header::parse(&file(2, &long)).unwrap_err().contains("claims 10001 bytes"));
        let claimed = [&MAGIC[..], &[2, 0], &u32::MAX.to_le_bytes(), b"{}"].concat();
        assert!(Header::parse(&claimed).unwrap_err().contains("claims 4294967295 bytes"));
    }
}
