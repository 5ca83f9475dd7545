//! Arrow: files and streams, which libraries give the same names. Both are messages, one after the other; some record batches are a part.
//!
//! The messages are found first (`messages`), so that batches are read in any order by any thread, each with one read. What a message claims
//! is bounded before the library makes room for it.

mod messages;

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MetadataVersion};
use arrow_schema::{ArrowError, SchemaRef};
use sentry_manifest::FoundFile;

use super::super::positioned::{Positioned, guarded, malformed, unfit, unreadable};
use super::{BATCH_BYTES, Body, Each, check_rows};
use crate::DatasetError;
use messages::{Message, Messages};

const FORMAT: &str = "Arrow";

struct Arrow {
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Message>,
    batches: Vec<Message>,
    /// Which batches each part has.
    parts: Vec<Range<usize>>,
    /// With all dictionaries, as long as some thread uses it. None if a dictionary comes after a batch: what it stands for depends on where
    /// one is, so that the file is read in order.
    decoder: Option<Mutex<Weak<FileDecoder>>>,
}

/// Finds the messages, and reads nothing of the rows.
pub fn open(found: &FoundFile, file: &Positioned) -> Result<(SchemaRef, Box<dyn Body>), DatasetError> {
    let Messages { schema, version, dictionaries, batches, in_order } = guarded(found, FORMAT, || messages::find(found, file))?;
    check_rows(found, FORMAT, batches.iter().fold(0, |sum: u64, batch| sum.saturating_add(batch.rows)))?;
    let parts = if in_order { std::iter::once(0..batches.len()).collect() } else { parts(&batches) };
    let decoder = (!in_order).then(|| Mutex::new(Weak::new()));
    Ok((Arc::clone(&schema), Box::new(Arrow { schema, version, dictionaries, batches, parts, decoder })))
}

/// Some MiB of batches each.
fn parts(batches: &[Message]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut bytes = u64::MAX;
    for (number, batch) in batches.iter().enumerate() {
        match parts.last_mut() {
            Some(part) if bytes.saturating_add(batch.len()) <= BATCH_BYTES => {
                part.end = number + 1;
                bytes += batch.len();
            }
            _ => {
                parts.push(number..number + 1);
                bytes = batch.len();
            }
        }
    }
    parts
}

impl Body for Arrow {
    fn part_bytes(&self) -> Vec<u64> {
        self.parts.iter().map(|part| self.batches[part.clone()].iter().map(Message::len).sum()).collect()
    }

    fn first_row(&self, part: usize) -> u64 {
        self.batches[..self.parts[part].start].iter().map(|batch| batch.rows).sum()
    }

    fn read(&self, found: &FoundFile, file: &Positioned, part: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let Some(decoder) = &self.decoder else { return self.read_in_order(found, file, each) };
        let decoder = self.shared(decoder, found, file)?;
        self.batches[self.parts[part].clone()].iter().try_for_each(|batch| self.read_batch(&decoder, found, file, batch, each))
    }
}

impl Arrow {
    /// The decoder with all dictionaries, which are read unless another thread has them.
    fn shared(&self, shared: &Mutex<Weak<FileDecoder>>, found: &FoundFile, file: &Positioned) -> Result<Arc<FileDecoder>, DatasetError> {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = shared.upgrade() {
            return Ok(decoder);
        }
        let mut decoder = FileDecoder::new(Arc::clone(&self.schema), self.version);
        self.dictionaries.iter().try_for_each(|dictionary| read_dictionary(&mut decoder, found, file, dictionary))?;
        let decoder = Arc::new(decoder);
        *shared = Arc::downgrade(&decoder);
        Ok(decoder)
    }

    /// Dictionaries and batches as they come: those that come later take the place of those before.
    fn read_in_order(&self, found: &FoundFile, file: &Positioned, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let mut decoder = FileDecoder::new(Arc::clone(&self.schema), self.version);
        let mut dictionaries = self.dictionaries.iter().peekable();
        for batch in &self.batches {
            while let Some(dictionary) = dictionaries.next_if(|dictionary| dictionary.place < batch.place) {
                read_dictionary(&mut decoder, found, file, dictionary)?;
            }
            self.read_batch(&decoder, found, file, batch, each)?;
        }
        Ok(())
    }

    fn read_batch(
        &self,
        decoder: &FileDecoder,
        found: &FoundFile,
        file: &Positioned,
        message: &Message,
        each: &mut Each<'_>,
    ) -> Result<(), DatasetError> {
        let batch = guarded(found, FORMAT, || {
            let bytes = read_message(found, file, message)?;
            decoder.read_record_batch(&message.block(), &bytes).map_err(wrong(found))
        })?;
        match batch {
            Some(batch) if batch.num_rows() as u64 == message.rows => each(&batch),
            _ => Err(unfit(found, FORMAT, "a record batch has other rows than it says")),
        }
    }
}

fn read_dictionary(decoder: &mut FileDecoder, found: &FoundFile, file: &Positioned, message: &Message) -> Result<(), DatasetError> {
    guarded(found, FORMAT, || {
        let bytes = read_message(found, file, message)?;
        decoder.read_dictionary(&message.block(), &bytes).map_err(wrong(found))
    })
}

/// A message's bytes, aligned so that columns can stay where they are.
fn read_message(found: &FoundFile, file: &Positioned, message: &Message) -> Result<Buffer, DatasetError> {
    let mut bytes = MutableBuffer::from_len_zeroed(message.len() as usize);
    let mut file = file.clone();
    file.seek(SeekFrom::Start(message.place)).and_then(|_| file.read_exact(&mut bytes)).map_err(unreadable(found))?;
    let bytes = Buffer::from(bytes);
    messages::check_lengths(&bytes, message).map_err(|reason| unfit(found, FORMAT, reason))?;
    Ok(bytes)
}

impl Message {
    fn block(&self) -> Block {
        Block::new(self.place as i64, self.head as i32, self.body as i64)
    }
}

fn wrong(found: &FoundFile) -> impl Fn(ArrowError) -> DatasetError + '_ {
    malformed(found, FORMAT)
}
