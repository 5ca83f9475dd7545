//! The schema in a file's footer, before the library reads it: it calls itself for what is nested, and makes room for as many fields as a
//! group claims to have.

use super::super::super::positioned::Positioned;
use super::thrift::{Kind, Reader};
use parquet::file::reader::Length;

/// What a file ends with, and the length of the footer before it.
const MAGIC: &[u8] = b"PAR1";
const TAIL: usize = 8;

/// Longest footer in bytes; one of 10,000 columns and 1,000 row groups has about as many.
const MAX_FOOTER: u64 = 1 << 30;

/// Most elements of a schema: groups and columns.
const MAX_ELEMENTS: u64 = 1 << 18;

/// Deepest nesting of a schema. A list takes two or three levels of it.
const MAX_DEPTH: usize = 100;

/// Checks the form of the schema. What else is in the footer is left to the library.
pub fn check(file: &Positioned) -> Result<(), String> {
    let cut = |error: std::io::Error| error.to_string();
    let size = file.len();
    let tail_at = size.checked_sub(TAIL as u64).ok_or("it is too short")?;
    let tail = file.bytes(tail_at, TAIL).map_err(cut)?;
    let (length, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Err("it does not end as Parquet does".to_owned());
    }
    let length = u64::from(u32::from_le_bytes(length.try_into().expect("four bytes")));
    let start = tail_at.checked_sub(length).filter(|_| length <= MAX_FOOTER).ok_or("its footer is longer than the file, or than a GiB")?;
    check_schema(&file.bytes(start, length as usize).map_err(cut)?)
}

fn check_schema(footer: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(footer);
    let elements = schema(&mut reader).ok_or("its footer cannot be read")?;
    // How many fields are to come in each group that is open.
    let mut open: Vec<u64> = Vec::new();
    for (place, children) in elements.iter().enumerate() {
        if *children > (elements.len() - place - 1) as u64 {
            return Err("a group of its schema has more fields than the schema".to_owned());
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if *children > 0 {
            open.push(*children);
        }
        if open.len() > MAX_DEPTH {
            return Err(format!("its schema is nested deeper than {MAX_DEPTH} levels"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

/// How many fields each element of the schema has, in their order: `FileMetaData.schema`, field 2.
fn schema(reader: &mut Reader<'_>) -> Option<Vec<u64>> {
    let mut last = 0;
    while let Some(kind) = reader.field(&mut last)? {
        if last != 2 {
            reader.skip(kind)?;
            continue;
        }
        let (kind, count) = reader.list()?;
        if kind != Kind::STRUCT || count > MAX_ELEMENTS {
            return None;
        }
        return (0..count).map(|_| children(reader)).collect();
    }
    None
}

/// `SchemaElement.num_children`, field 5.
fn children(reader: &mut Reader<'_>) -> Option<u64> {
    let (mut last, mut children) = (0, 0);
    while let Some(kind) = reader.field(&mut last)? {
        if last == 5 && kind == Kind::I32 {
            children = u64::try_from(reader.integer()?).ok()?;
        } else {
            reader.skip(kind)?;
        }
    }
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema is these numbers of fields, and nothing else.
    fn footer(children: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x29, 0xfc];
        bytes.extend([0x80 | (children.len() & 0x7f) as u8, (children.len() >> 7) as u8]);
        // Field 5, of kind I32, and the end of the structure.
        children.iter().for_each(|&children| bytes.extend([0x55, children << 1, 0]));
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_schema_that_is_a_tree_passes() {
        check_schema(&footer(&[2, 0, 1, 0])).unwrap();
        check_schema(&footer(&[[1; 100].as_slice(), &[0]].concat())).unwrap();
    }

    #[test]
    fn a_schema_without_end_is_refused_before_it_is_followed() {
        let error = check_schema(&footer(&[1; 5000])).unwrap_err();
        assert!(error.contains("nested deeper"), "{error}");
    }

    #[test]
    fn more_fields_than_there_are_have_no_room_made() {
        let error = check_schema(&footer(&[2, 60, 0])).unwrap_err();
        assert!(error.contains("more fields"), "{error}");
    }

    #[test]
    fn a_footer_that_ends_early_is_refused() {
        let whole = footer(&[2, 0, 0]);
        for length in 0..whole.len() - 1 {
            assert!(check_schema(&whole[..length]).is_err(), "{length}");
        }
    }
}
