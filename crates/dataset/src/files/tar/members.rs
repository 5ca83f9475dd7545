//! The files in an archive, header by header.
//!
//! The format leaves room: which of two names counts, whether a folder has bytes, what else stands at the end. Readers fill it differently, so
//! one archive could be different samples for whoever verifies and whoever trains. What Python's `tarfile` and others could read in two
//! ways is refused here. That is why the walk is ours; the library reads the fields of a header.

use sentry_manifest::limits::MAX_NAME_BYTES;
use sentry_manifest::{FoundFile, ModelPath, printable};
use tar::Header;

use super::super::positioned::{Positioned, malformed, unfit, unreadable};
use super::FORMAT;
use crate::DatasetError;

/// Bytes of a header, which everything in an archive is a multiple of.
const BLOCK: u64 = 512;

/// Most bytes of attributes of one file.
const MAX_ATTRIBUTES: u64 = 1 << 20;

/// Most zeroes at the end. Archives are padded to a multiple of 10,240 bytes, on tapes to more.
const MAX_END: u64 = 1 << 20;

/// Where a header has the folders of its name. GNU's own headers have something else there.
const PREFIX: std::ops::Range<usize> = 345..500;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// Where the headers that are about it begin.
    pub header: u64,
    pub offset: u64,
    pub size: u64,
}

/// A walk over the files of an archive.
pub struct Members<'a> {
    found: &'a FoundFile,
    file: &'a Positioned,
    /// Where the next header is.
    position: u64,
}

/// What the headers before a file's own say of it.
#[derive(Default)]
struct Described {
    long_name: Option<String>,
    path: Option<String>,
    size: Option<u64>,
    has_attributes: bool,
}

/// Whether attributes are about the next file, or about all that follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Next,
    All,
}

impl<'a> Members<'a> {
    /// Begins with the header at `position`.
    pub fn new(found: &'a FoundFile, file: &'a Positioned, position: u64) -> Self {
        Self { found, file, position }
    }

    /// Where the next header is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next file; none at the end, which is looked at.
    ///
    /// # Errors
    /// [`DatasetError`], also for links and devices.
    pub fn next(&mut self) -> Result<Option<Member>, DatasetError> {
        let mut begin = self.position;
        let mut described = Described::default();
        loop {
            let at = self.position;
            let Some(header) = self.header()? else {
                return if begin == at { Ok(None) } else { Err(self.wrong("its last header is about a file that is not there")) };
            };
            let (kind, offset) = (header.as_bytes()[156], at + BLOCK);
            if let b'L' | b'x' | b'g' = kind {
                let body = self.attributes(&header, offset)?;
                match kind {
                    b'L' => self.add_long_name(&mut described, body)?,
                    b'x' => self.add_attributes(&mut described, &body, Scope::Next)?,
                    _ => self.add_attributes(&mut described, &body, Scope::All)?,
                }
                continue;
            }
            let size = described.size.map_or_else(|| self.size(&header), Ok)?;
            let name = self.name(&header, described)?;
            self.skip(offset, size, &name)?;
            match kind {
                b'0' | 0 => {
                    ModelPath::new(name.strip_prefix("./").unwrap_or(&name)).map_err(|error| self.wrong(error.to_string()))?;
                    return Ok(Some(Member { name, header: begin, offset, size }));
                }
                b'5' if size == 0 => {}
                b'5' => return Err(self.wrong(format!("the folder \"{}\" has bytes", printable(&name)))),
                _ => return Err(self.wrong(format!("\"{}\" is neither a file nor a folder", printable(&name)))),
            }
            (begin, described) = (self.position, Described::default());
        }
    }

    /// The next header, and checks its sum; none at the end.
    fn header(&self) -> Result<Option<Header>, DatasetError> {
        if self.position + BLOCK > self.file.size() {
            return Err(self.wrong("it has no end"));
        }
        let block = self.file.bytes(self.position, BLOCK as usize).map_err(unreadable(self.found))?;
        if block.iter().all(|&byte| byte == 0) {
            return self.check_end().map(|()| None);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        // The sum is over a header whose field for it is blank.
        let sum =
            block.iter().enumerate().map(|(place, &byte)| if (148..156).contains(&place) { 32 } else { u32::from(byte) }).sum::<u32>();
        if header.cksum().map_err(malformed(self.found, FORMAT))? != sum {
            return Err(self.wrong(format!("the header at byte {} is damaged", self.position)));
        }
        let is_plain = header.as_ustar().is_some();
        if !is_plain && block[PREFIX].iter().any(|&byte| byte != 0) {
            return Err(self.wrong(format!("the header at byte {} has folders that only some programs see", self.position)));
        }
        Ok(Some(header))
    }

    /// Two blocks of zeroes, and nothing but zeroes after them.
    fn check_end(&self) -> Result<(), DatasetError> {
        let rest = self.file.size() - self.position;
        if rest < 2 * BLOCK {
            return Err(self.wrong("it has no end"));
        }
        let is_blank =
            rest <= MAX_END && self.file.bytes(self.position, rest as usize).map_err(unreadable(self.found))?.iter().all(|&byte| byte == 0);
        if is_blank { Ok(()) } else { Err(self.wrong("something follows its end")) }
    }

    /// The size in a header. Numbers that need more than 8 bytes are no sizes, and programs read them differently.
    fn size(&self, header: &Header) -> Result<u64, DatasetError> {
        let field = &header.as_old().size;
        if field[0] >= 0x80 && field[..4] != [0x80, 0, 0, 0] {
            return Err(self.wrong(format!("the header at byte {} has no size", self.position)));
        }
        header.entry_size().map_err(malformed(self.found, FORMAT))
    }

    /// The bytes that a header about another header is followed by.
    fn attributes(&mut self, header: &Header, offset: u64) -> Result<Vec<u8>, DatasetError> {
        let size = self.size(header)?;
        if size > MAX_ATTRIBUTES {
            return Err(self.wrong(format!("the header at byte {} has {size} bytes of attributes", self.position)));
        }
        self.skip(offset, size, "attributes")?;
        self.file.bytes(offset, size as usize).map_err(unreadable(self.found))
    }

    /// Goes to the header behind `size` bytes at `offset`.
    fn skip(&mut self, offset: u64, size: u64, name: &str) -> Result<(), DatasetError> {
        let end = offset.checked_add(size).filter(|&end| end <= self.file.size());
        let end = end.ok_or_else(|| self.wrong(format!("\"{}\" is cut off", printable(name))))?;
        self.position = end.next_multiple_of(BLOCK);
        Ok(())
    }

    fn add_long_name(&self, described: &mut Described, mut name: Vec<u8>) -> Result<(), DatasetError> {
        let length = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        name.truncate(length);
        if described.long_name.replace(self.text(name)?).is_some() {
            return Err(self.wrong("a file has two long names"));
        }
        Ok(())
    }

    /// Attributes in the form of POSIX: `LENGTH KEY=VALUE` and a line feed, where the length is that of all this.
    fn add_attributes(&self, described: &mut Described, mut body: &[u8], scope: Scope) -> Result<(), DatasetError> {
        if scope == Scope::Next && std::mem::replace(&mut described.has_attributes, true) {
            return Err(self.wrong("a file has attributes twice"));
        }
        while !body.is_empty() {
            let (key, value, rest) = attribute(body).ok_or_else(|| self.wrong("attributes of a file cannot be read"))?;
            body = rest;
            match key {
                b"path" | b"size" if scope == Scope::All => return Err(self.wrong("all files have one name or size")),
                b"path" if described.path.is_none() => described.path = Some(self.text(value.to_vec())?),
                b"size" if described.size.is_none() => {
                    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                    let size = digits.and_then(|digits| digits.parse().ok());
                    described.size = Some(size.ok_or_else(|| self.wrong("attributes of a file cannot be read"))?);
                }
                b"path" | b"size" => return Err(self.wrong("a file has an attribute twice")),
                key if key.starts_with(b"GNU.sparse.") => return Err(self.wrong("a file is stored with holes")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The one name that a file has.
    fn name(&self, header: &Header, described: Described) -> Result<String, DatasetError> {
        match (described.long_name, described.path) {
            (Some(_), Some(_)) => Err(self.wrong("a file has two long names")),
            (Some(name), None) | (None, Some(name)) => Ok(name),
            (None, None) => self.text(header.path_bytes().into_owned()),
        }
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String, DatasetError> {
        if bytes.len() > MAX_NAME_BYTES {
            return Err(self.wrong(format!("a name is longer than {MAX_NAME_BYTES} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| self.wrong("a name is not UTF-8"))
    }

    pub fn wrong(&self, reason: impl Into<String>) -> DatasetError {
        unfit(self.found, FORMAT, reason)
    }
}

/// Key and value of the first attribute, and what follows it.
fn attribute(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|&byte| byte == b' ')?;
    let digits = std::str::from_utf8(&body[..space]).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let length = digits.parse().ok().filter(|length| (space + 1..=body.len()).contains(length))?;
    let (record, rest) = body.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=').filter(|&equals| equals > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_by_their_lengths() {
        let body = b"13 path=a\nb.c\n6 x=y\n6 z=\n\n";
        assert_eq!(attribute(&body[..]), None, "a length that ends in the middle of a record");
        let body = b"14 path=a\nb.c\n6 x=y\n6 z=\n\n";
        let (key, value, rest) = attribute(body).unwrap();
        assert_eq!((key, value), (&b"path"[..], &b"a\nb.c"[..]));
        let (key, value, rest) = attribute(rest).unwrap();
        assert_eq!((key, value), (&b"x"[..], &b"y"[..]));
        assert_eq!(attribute(rest), Some((&b"z"[..], &b"\n"[..], &b""[..])));
        for wrong in [
            "",
            "6 x=y",
            "5 x=y\n",
            "7 x=y\n",
            "6x=y\n",
            " x=y\n",
            "-6 x=y\n",
            "+6 x=y\n",
            "5 =y\n",
            "4 x\n",
            "2 ",
            "99999999999999999999 x=y\n",
        ] {
            assert_eq!(attribute(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
