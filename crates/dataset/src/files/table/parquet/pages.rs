//! The pages of a row group, each looked at before the library decodes it: it makes room for as many values as a page's head claims.

use std::sync::Arc;

use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::super::super::positioned::Positioned;
use super::thrift::Reader;

/// Values of a column chunk at most, beyond [`VALUES_A_BYTE`]: the longest row groups of old writers, all of one value.
const MOST_VALUES: u64 = 1 << 26;

/// Values that a byte of a page stands for, at most. Only runs of one value are shorter.
const VALUES_A_BYTE: u64 = 64;

/// Longest page of values that are stored as differences to those before them: each may be as long as all of it.
const MAX_DIFFERENCES: usize = 16 << 20;

/// By how much the pages of a chunk may exceed what the footer says of it.
const SLACK: u64 = 1 << 20;

/// One row group of a file.
pub struct OneGroup {
    file: Arc<Positioned>,
    metadata: Arc<ParquetMetaData>,
    group: usize,
}

impl OneGroup {
    pub fn new(file: Arc<Positioned>, metadata: Arc<ParquetMetaData>, group: usize) -> Self {
        Self { file, metadata, group }
    }
}

impl RowGroups for OneGroup {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.group).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let group = self.metadata.row_group(self.group);
        let chunk = group.columns().get(column).ok_or(ParquetError::IndexOutOfBound(column, group.num_columns()))?;
        let bounds = Bounds {
            column: chunk.column_descr_ptr(),
            bytes_left: u64::try_from(chunk.uncompressed_size()).unwrap_or(0).saturating_mul(2).saturating_add(SLACK),
            values_left: MOST_VALUES,
            differences: chunk.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY),
        };
        let pages = SerializedPageReader::new(Arc::clone(&self.file), chunk, self.num_rows(), None)?;
        Ok(Box::new(OneChunk(Some(BoundedPages { pages, bounds }))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The one chunk of a column.
struct OneChunk(Option<BoundedPages>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as _))
    }
}

impl PageIterator for OneChunk {}

struct BoundedPages {
    pages: SerializedPageReader<Positioned>,
    bounds: Bounds,
}

/// What the pages of a chunk may still have.
struct Bounds {
    column: ColumnDescPtr,
    bytes_left: u64,
    values_left: u64,
    /// Whether the footer names the encoding by differences.
    differences: bool,
}

impl Bounds {
    fn check(&mut self, page: &Page) -> Result<()> {
        let bytes = page.buffer().len() as u64;
        let values = u64::from(page.num_values());
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| wrong("a column has more bytes than the footer says"))?;
        if page.is_dictionary_page() {
            // Each value has a byte at least.
            return if values <= bytes { Ok(()) } else { Err(wrong("a dictionary claims more values than it has bytes")) };
        }
        self.values_left = self.values_left.saturating_add(bytes.saturating_mul(VALUES_A_BYTE));
        self.values_left = self.values_left.checked_sub(values).ok_or_else(|| wrong("a page claims more values than it can have"))?;
        match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                lengths(self.values(page)?, values)?;
            }
            Encoding::DELTA_BYTE_ARRAY => {
                if !self.differences || page.buffer().len() > MAX_DIFFERENCES {
                    return Err(wrong("a page of values as differences that is longer than 16 MiB, or that the footer does not name"));
                }
                let prefixes = self.values(page)?;
                lengths(lengths(prefixes, values)?, values)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The bytes of a page behind its levels.
    fn values<'a>(&self, page: &'a Page) -> Result<&'a [u8]> {
        let bytes: &[u8] = page.buffer();
        let start = match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                Some(*def_levels_byte_len as usize + *rep_levels_byte_len as usize)
            }
            Page::DataPage { def_level_encoding, rep_level_encoding, num_values, .. } => {
                let levels = [(self.column.max_rep_level(), rep_level_encoding), (self.column.max_def_level(), def_level_encoding)];
                let used = levels.into_iter().filter(|(most, _)| *most > 0);
                used.into_iter()
                    .try_fold(0_usize, |at, (most, encoding)| at.checked_add(levels_len(bytes.get(at..)?, *encoding, most, *num_values)?))
            }
            Page::DictionaryPage { .. } => Some(0),
        };
        start.and_then(|start| bytes.get(start..)).ok_or_else(|| wrong("a page ends within its levels"))
    }
}

/// How many bytes the levels take that a page of the first version begins with.
fn levels_len(bytes: &[u8], encoding: Encoding, most: i16, values: u32) -> Option<usize> {
    match encoding {
        Encoding::RLE => usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?.checked_add(4),
        _ => (values as usize).checked_mul((16 - most.leading_zeros()) as usize).map(|bits| bits.div_ceil(8)),
    }
}

/// Checks the number of lengths that are packed as differences (`DELTA_BINARY_PACKED`), and returns what follows them.
fn lengths(bytes: &[u8], most: u64) -> Result<&[u8]> {
    skip_lengths(bytes, most).ok_or_else(|| wrong("a page has other lengths of values than values"))
}

fn skip_lengths(bytes: &[u8], most: u64) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let (block, pieces, count) = (reader.varint()?, reader.varint()?, reader.varint()?);
    reader.integer()?;
    let piece = block.checked_div(pieces).filter(|piece| *piece > 0)?;
    if count > most {
        return None;
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        reader.integer()?;
        let widths = reader.bytes(pieces)?;
        for &width in widths {
            if left > 0 {
                reader.bytes(u64::from(width).checked_mul(piece)? / 8)?;
                left = left.saturating_sub(piece);
            }
        }
    }
    Some(reader.rest())
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

impl Iterator for BoundedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for BoundedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.bounds.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    fn bounds() -> Bounds {
        let schema = parse_message_type("message m { optional binary x; }").unwrap();
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        Bounds { column, bytes_left: 1000, values_left: MOST_VALUES, differences: true }
    }

    fn data(bytes: &[u8], num_values: u32, encoding: Encoding) -> Page {
        let (def_level_encoding, rep_level_encoding) = (Encoding::RLE, Encoding::RLE);
        let buf = Bytes::copy_from_slice(bytes);
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics: None }
    }

    /// Levels of two bytes, then lengths of a block of 128: how many there are, the first, and the least difference and widths of 0 bits.
    fn lengths_page(count: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 9, 1, 0x80, 1, 4], count, &[0, 0, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn a_dictionary_with_more_values_than_bytes_is_refused() {
        let page = |num_values| Page::DictionaryPage {
            buf: Bytes::from_static(&[0; 10]),
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        bounds().check(&page(10)).unwrap();
        assert!(bounds().check(&page(11)).is_err());
        assert!(bounds().check(&page(u32::MAX)).is_err());
    }

    #[test]
    fn pages_with_more_values_or_bytes_than_there_can_be_are_refused() {
        bounds().check(&data(&[], MOST_VALUES as u32, Encoding::PLAIN)).unwrap();
        assert!(bounds().check(&data(&[], MOST_VALUES as u32 + 1, Encoding::PLAIN)).is_err());
        let mut both = bounds();
        both.check(&data(&[], MOST_VALUES as u32 - 1, Encoding::PLAIN)).unwrap();
        assert!(both.check(&data(&[], 2, Encoding::PLAIN)).is_err());
        assert!(bounds().check(&data(&[0; 1001], 1, Encoding::PLAIN)).is_err());
    }

    #[test]
    fn lengths_are_as_many_as_values() {
        let page = |count: &[u8], values| data(&lengths_page(count), values, Encoding::DELTA_LENGTH_BYTE_ARRAY);
        bounds().check(&page(&[5], 5)).unwrap();
        assert!(bounds().check(&page(&[6], 5)).is_err());
        assert!(bounds().check(&page(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 5)).is_err());
        assert!(bounds().check(&data(&[2, 0, 0, 0, 9, 1, 0x80, 1, 0, 1, 0], 5, Encoding::DELTA_LENGTH_BYTE_ARRAY)).is_err());
        for length in 0..lengths_page(&[5]).len() {
            assert!(bounds().check(&data(&lengths_page(&[5])[..length], 5, Encoding::DELTA_LENGTH_BYTE_ARRAY)).is_err(), "{length}");
        }
    }

    #[test]
    fn the_lengths_behind_prefixes_are_as_many_too() {
        let page = |suffixes: &[u8]| [lengths_page(&[5]), lengths_page(suffixes)[6..].to_vec()].concat();
        bounds().check(&data(&page(&[5]), 5, Encoding::DELTA_BYTE_ARRAY)).unwrap();
        assert!(bounds().check(&data(&page(&[0xff, 0xff, 0x7f]), 5, Encoding::DELTA_BYTE_ARRAY)).is_err());
        let mut unnamed = Bounds { differences: false, ..bounds() };
        assert!(unnamed.check(&data(&page(&[5]), 5, Encoding::DELTA_BYTE_ARRAY)).is_err());
    }
}
