//! Where the messages of an Arrow file or stream are.
//! <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>

use std::sync::Arc;

use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::{Endianness, MessageHeader, MetadataVersion, RecordBatch, Schema, root_as_footer, root_as_message};
use arrow_schema::SchemaRef;
use sentry_manifest::FoundFile;

use super::super::super::positioned::{Positioned, malformed, unreadable};
use super::FORMAT;
use crate::DatasetError;

/// What a file begins and ends with; a stream does not.
const MAGIC: &[u8] = b"ARROW1";

/// What files of Feather's first version begin with.
const FEATHER_1: &[u8] = b"FEA1";

/// Bytes before the first message of a file, and after the footer.
const FILE_HEAD: u64 = 8;
const FILE_TAIL: u64 = 10;

/// What a message begins with, but those of the oldest writers.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Longest head of a message, and longest footer. One of 65,536 columns has some MiB.
const MAX_HEAD: u64 = 1 << 28;

/// Longest body of a message, as it is stored and as it is unpacked: it is held in memory.
const MAX_BODY: u64 = 1 << 33;

/// Longest buffer of a body that is unpacked.
const MAX_BUFFER: i64 = 1 << 31;

/// A message that holds rows, or a dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Where it begins.
    pub place: u64,
    /// Bytes before its body, its own length included.
    pub head: u64,
    /// Bytes of its body.
    pub body: u64,
    /// How many rows it has; none for a dictionary.
    pub rows: u64,
}

impl Message {
    /// Bytes of head and body.
    pub fn len(&self) -> u64 {
        self.head + self.body
    }
}

/// All messages, in their order.
pub struct Messages {
    pub schema: SchemaRef,
    pub version: MetadataVersion,
    pub dictionaries: Vec<Message>,
    pub batches: Vec<Message>,
    /// Whether a dictionary comes after a batch, so that what batches mean depends on the dictionaries before them.
    pub in_order: bool,
}

type Reason = String;

pub fn find(found: &FoundFile, file: &Positioned) -> Result<Messages, DatasetError> {
    let head = file.bytes(0, found.size.min(MAGIC.len() as u64) as usize).map_err(unreadable(found))?;
    let source = Source { found, file };

    match head.as_slice() {
        MAGIC => source.file_messages(),
        head if head.starts_with(FEATHER_1) => Err(source.wrong("it is of Feather's first version, which is another format")),
        _ => source.stream_messages(),
    }
}

struct Source<'a> {
    found: &'a FoundFile,
    file: &'a Positioned,
}

/// What a message is, as its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dictionary,
    Batch,
}

impl Source<'_> {
    fn wrong(&self, reason: impl std::fmt::Display) -> DatasetError {
        malformed(self.found, FORMAT)(reason)
    }

    /// Bytes that must be there.
    fn bytes(&self, place: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        let end = place.checked_add(length);
        if end.is_none_or(|end| end > self.found.size) {
            return Err(self.wrong("it ends too early"));
        }
        self.file.bytes(place, length as usize).map_err(unreadable(self.found))
    }

    fn file_messages(&self) -> Result<Messages, DatasetError> {
        let tail_at = self.found.size.checked_sub(FILE_TAIL).filter(|at| *at >= FILE_HEAD).ok_or_else(|| self.wrong("it is too short"))?;
        let tail = self.bytes(tail_at, FILE_TAIL)?;
        if tail[4..] != *MAGIC {
            return Err(self.wrong("it does not end as an Arrow file does"));
        }
        let length = u64::from(u32::from_le_bytes(*tail.first_chunk().expect("ten bytes")));
        let start = tail_at.checked_sub(length).filter(|start| *start >= FILE_HEAD && length <= MAX_HEAD);
        let bytes = self.bytes(start.ok_or_else(|| self.wrong("its footer has no such length"))?, length)?;
        let footer = root_as_footer(&bytes).map_err(|error| self.wrong(error))?;
        let schema = self.schema(footer.schema())?;
        let mut messages = Messages::new(schema, footer.version());
        for block in footer.dictionaries().iter().flatten().chain(footer.recordBatches().iter().flatten()) {
            let (place, head, body) = (block.offset(), i64::from(block.metaDataLength()), block.bodyLength());
            let numbers = (u64::try_from(place), u64::try_from(head), u64::try_from(body));
            let (Ok(place), Ok(head), Ok(body)) = numbers else { return Err(self.wrong("its footer has a negative number")) };
            messages.add(self.message(place, head, Some(body))?.ok_or_else(|| self.wrong("its footer names what is no batch"))?);
        }
        // Where they are is of no matter in a file: the dictionaries are those of all batches.
        messages.in_order = false;
        Ok(messages)
    }

    fn stream_messages(&self) -> Result<Messages, DatasetError> {
        let mut messages = None;
        let mut place = 0;
        loop {
            let first = self.bytes(place, 4)?;
            let (length, from) = if first == CONTINUATION { (self.bytes(place + 4, 4)?, 8) } else { (first, 4) };
            let length = u64::from(u32::from_le_bytes(*length.first_chunk().expect("four bytes")));
            if length == 0 {
                // A stream that lacks its end has perhaps lost samples.
                if place + from != self.found.size {
                    return Err(self.wrong("something stands behind its end"));
                }
                return messages.ok_or_else(|| self.wrong("it has no schema"));
            }
            let end = match &mut messages {
                None => {
                    let bytes = self.head(place, from + length)?;
                    let message = root_as_message(&bytes[from as usize..]).map_err(|error| self.wrong(error))?;
                    let schema = self.schema(message.header_as_schema())?;
                    messages = Some(Messages::new(schema, message.version()));
                    Some(place + from + length)
                }
                Some(messages) => self.message(place, from + length, None)?.map(|found| {
                    messages.add(found);
                    place + found.0.len()
                }),
            };
            place = end.ok_or_else(|| self.wrong("it has a message that is no batch"))?;
        }
    }

    fn head(&self, place: u64, length: u64) -> Result<Vec<u8>, DatasetError> {
        if length > MAX_HEAD { Err(self.wrong("the head of a message is too long")) } else { self.bytes(place, length) }
    }

    /// The message at a place, whose head has this length. None if it is no batch.
    fn message(&self, place: u64, head: u64, body: Option<u64>) -> Result<Option<(Message, Kind)>, DatasetError> {
        let bytes = self.head(place, head)?;
        let message = parse(&bytes).map_err(|reason| self.wrong(reason))?;
        let own_body = u64::try_from(message.bodyLength()).map_err(|_| self.wrong("a body has a negative length"))?;
        let body = body.unwrap_or(own_body);
        let end = place.checked_add(head).and_then(|start| start.checked_add(body));
        if end.is_none_or(|end| end > self.found.size) || body > MAX_BODY {
            return Err(self.wrong("a message is longer than the file, or than 8 GiB"));
        }
        let rows = |batch: RecordBatch<'_>| u64::try_from(batch.length()).map_err(|_| self.wrong("a batch has a negative number of rows"));
        let (kind, rows) = match message.header_type() {
            MessageHeader::DictionaryBatch => (Kind::Dictionary, 0),
            MessageHeader::RecordBatch => (Kind::Batch, message.header_as_record_batch().map_or(Ok(0), rows)?),
            _ => return Ok(None),
        };
        Ok(Some((Message { place, head, body, rows }, kind)))
    }

    fn schema(&self, schema: Option<Schema<'_>>) -> Result<SchemaRef, DatasetError> {
        let schema = schema.ok_or_else(|| self.wrong("it has no schema"))?;
        if schema.endianness() != Endianness::Little {
            return Err(self.wrong("its numbers are big-endian"));
        }
        try_fb_to_schema(schema).map(Arc::new).map_err(|error| self.wrong(error))
    }
}

impl Messages {
    fn new(schema: SchemaRef, version: MetadataVersion) -> Self {
        Self { schema, version, dictionaries: Vec::new(), batches: Vec::new(), in_order: false }
    }

    fn add(&mut self, (message, kind): (Message, Kind)) {
        match kind {
            Kind::Batch => self.batches.push(message),
            Kind::Dictionary => {
                self.in_order |= !self.batches.is_empty();
                self.dictionaries.push(message);
            }
        }
    }
}

/// The head of a message behind its length.
fn parse(bytes: &[u8]) -> Result<arrow_ipc::Message<'_>, Reason> {
    let from = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
    let head = bytes.get(from..).ok_or("a message has no head")?;
    root_as_message(head).map_err(|error| error.to_string())
}

/// Checks what the buffers of a message claim: where they are, and how long they are once they are unpacked.
pub fn check_lengths(bytes: &[u8], message: &Message) -> Result<(), Reason> {
    let (head, body) = bytes.split_at_checked(message.head as usize).ok_or("a message has no body")?;
    let parsed = parse(head)?;
    let batch = match parsed.header_type() {
        MessageHeader::DictionaryBatch => parsed.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => parsed.header_as_record_batch(),
    };
    let batch = batch.ok_or("a message is no batch")?;
    let mut unpacked = 0_u64;
    for buffer in batch.buffers().iter().flatten() {
        let range = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let (Ok(start), Ok(length)) = range else { return Err("a buffer has a negative number".to_owned()) };
        let stored = start.checked_add(length).and_then(|end| body.get(start..end)).ok_or("a buffer is not in its message")?;
        if batch.compression().is_none() || stored.is_empty() {
            continue;
        }
        // Behind its length, or -1 for one that is not packed.
        let claimed = i64::from_le_bytes(*stored.first_chunk().ok_or("a buffer is too short")?);
        unpacked = unpacked.saturating_add(u64::try_from(claimed).unwrap_or(0));
        if !(-1..=MAX_BUFFER).contains(&claimed) || unpacked > MAX_BODY {
            return Err(format!("a buffer claims {claimed} bytes"));
        }
    }
    Ok(())
}
