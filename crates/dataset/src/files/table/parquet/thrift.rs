//! As much of Thrift's compact protocol as it takes to walk over a structure.
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// Deepest nesting of structures and lists that is walked over.
const MAX_DEPTH: usize = 32;

/// Bytes that are read from the front.
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// What a field or an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    pub const I32: Self = Self(5);
    pub const STRUCT: Self = Self(12);
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next bytes as they are.
    pub fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// An unsigned integer, seven bits a byte.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A signed integer: the sign is in the lowest bit.
    pub fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and kind of the next field of a structure; no field at its end. `last` is the number of the field before.
    pub fn field(&mut self, last: &mut i64) -> Option<Option<Kind>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *last = match head >> 4 {
            0 => self.integer()?,
            step => last.checked_add(step.into())?,
        };
        Some(Some(Kind(head & 0x0f)))
    }

    /// The elements' kind and number of a list or a set.
    pub fn list(&mut self) -> Option<(Kind, u64)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => count.into(),
        };
        Some((Kind(head & 0x0f), count))
    }

    /// Walks over a field's value.
    pub fn skip(&mut self, kind: Kind) -> Option<()> {
        match kind.0 {
            // A truth value is in its field's kind.
            1 | 2 => Some(()),
            other => self.skip_element(Kind(other), MAX_DEPTH),
        }
    }

    fn skip_element(&mut self, kind: Kind, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind.0 {
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.bytes(8).map(drop),
            8 => {
                let length = self.varint()?;
                self.bytes(length).map(drop)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))
            }
            11 => match self.varint()? {
                0 => Some(()),
                count => {
                    let kinds = self.byte()?;
                    (0..count).try_for_each(|_| {
                        self.skip_element(Kind(kinds >> 4), depth)?;
                        self.skip_element(Kind(kinds & 0x0f), depth)
                    })
                }
            },
            12 => {
                let mut last = 0;
                while let Some(kind) = self.field(&mut last)? {
                    if !matches!(kind.0, 1 | 2) {
                        self.skip_element(kind, depth)?;
                    }
                }
                Some(())
            }
            _ => None,
        }
    }
}
