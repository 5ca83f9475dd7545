//! Arrow: files, of which a record batch is a part, and streams, which are one part. Libraries give both the same names.

use std::io::BufReader;

use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::SchemaRef;
use sentry_manifest::FoundFile;

use super::super::positioned::{Positioned, guarded, malformed, unfit, unreadable};
use super::{Body, Each};
use crate::DatasetError;

const FORMAT: &str = "Arrow";

/// What a file begins with; a stream does not.
const MAGIC: &[u8] = b"ARROW1";

enum Arrow {
    File { batches: usize, size: u64 },
    Stream { size: u64 },
}

pub fn open(found: &FoundFile, file: &Positioned) -> Result<(SchemaRef, Box<dyn Body>), DatasetError> {
    let head = file.bytes(0, found.size.min(MAGIC.len() as u64) as usize).map_err(unreadable(found))?;
    let (schema, body) = guarded(found, FORMAT, || {
        if head == MAGIC {
            let reader = FileReader::try_new(BufReader::new(file.clone()), None).map_err(malformed(found, FORMAT))?;
            return Ok((reader.schema(), Arrow::File { batches: reader.num_batches(), size: found.size }));
        }
        let reader = StreamReader::try_new(BufReader::new(file.clone()), None).map_err(malformed(found, FORMAT))?;
        Ok((reader.schema(), Arrow::Stream { size: found.size }))
    })?;
    Ok((schema, Box::new(body)))
}

impl Body for Arrow {
    fn part_bytes(&self) -> Vec<u64> {
        match *self {
            // How long each batch is, is of no matter but for a progress bar.
            Self::File { batches, size } => vec![size / batches.max(1) as u64; batches],
            Self::Stream { size } => vec![size],
        }
    }

    fn read(&self, found: &FoundFile, file: &Positioned, part: usize, each: &mut Each<'_>) -> Result<(), DatasetError> {
        let file = BufReader::new(file.clone());
        guarded(found, FORMAT, || match self {
            Self::File { .. } => {
                let mut reader = FileReader::try_new(file, None).map_err(malformed(found, FORMAT))?;
                reader.set_index(part).map_err(malformed(found, FORMAT))?;
                match reader.next() {
                    Some(batch) => each(&batch.map_err(malformed(found, FORMAT))?),
                    None => Err(unfit(found, FORMAT, "a record batch is missing")),
                }
            }
            Self::Stream { .. } => {
                let mut reader = StreamReader::try_new(file, None).map_err(malformed(found, FORMAT))?;
                reader.try_for_each(|batch| each(&batch.map_err(malformed(found, FORMAT))?))
            }
        })
    }
}
