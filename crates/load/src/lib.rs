//! From storage to memory, of this machine or of GPUs, hashed on the way.
//!
//! ```text
//! disk, page cache ──► buffers ──► memory of GPUs ──► hashed there, in pieces, as they land ──┐
//!      by pread,        a few a                                                               ├──► digests
//!      io_uring         thread ──► this machine's memory; hashed by the cores while read ─────┘
//! ```
//!
//! A [`Loader`] runs a load; the files are [`FileJob`]s, and a [`Landing`] says where each goes. The parts, from the files on:
//!
//! - `source`: how bytes are read: out of the page cache, or around it. `uring`, `cufile`: two ways around it.
//! - `plan`: what is read at a time, and where it is hashed.
//! - `pipeline`, `worker`: the threads.
//! - `landing`: where bytes go. What nobody keeps is wiped.
//! - `machine`: what this machine has for all that.
//!
//! Nothing here knows what is signed. What landed has been checked by nobody until whoever holds the signed digests has compared them.

mod buffers;
mod cufile;
mod landing;
mod machine;
mod pipeline;
mod plan;
mod report;
mod source;
mod uring;
mod worker;

use sentry_cuda::{Gpu, Stream};
use sentry_hash::HashError;
use sentry_hash::files::{FileJob, Progress};

pub use landing::{HostRoom, Landing, Region, Room};
pub use machine::*;
pub use report::Report;
pub use source::Reading;

/// How files are loaded.
#[derive(Debug, Clone)]
pub struct Loader<'a> {
    /// How files are read.
    pub reading: Reading,
    /// Whether reads around the page cache may be queued by io_uring.
    pub queued: bool,
    /// How many threads read. Default: as many as seven eighths of the cores, at most 16.
    pub threads: Option<usize>,
    /// Streams whose work may still use the memory that is loaded to.
    pub after: Vec<(&'static Gpu, &'a Stream)>,
    /// Whether GPUs hash nothing; their digests are all zero then, and match nothing.
    #[cfg(feature = "unhashed")]
    pub unhashed: bool,
}

impl Default for Loader<'_> {
    fn default() -> Self {
        Self {
            reading: Reading::Auto,
            queued: true,
            threads: None,
            after: Vec::new(),
            #[cfg(feature = "unhashed")]
            unhashed: false,
        }
    }
}

/// What came of the files, in the order of the jobs, and how.
#[derive(Debug)]
pub struct Loaded<O> {
    /// What [`FileJob::finish`] made of each.
    pub outputs: Vec<O>,
    /// How it went.
    pub report: Report,
}

impl Loader<'_> {
    fn is_unhashed(&self) -> bool {
        #[cfg(feature = "unhashed")]
        return self.unhashed;
        #[cfg(not(feature = "unhashed"))]
        false
    }

    /// Reads the files of `jobs` to where `landing` says, and hashes them. When it returns, nothing is read or written any more.
    ///
    /// # Errors
    /// The first one of a job; [`HashError::Device`] for a GPU that fails. What landed is to be dropped then.
    pub fn load<'j, 'm: 'j, J: FileJob>(
        &self,
        jobs: &'j [J],
        landing: &dyn Fn(&'j J) -> &'j Landing<'m>,
        progress: Progress<'_>,
    ) -> Result<Loaded<J::Output>, J::Error>
    where
        J::Error: From<HashError>,
    {
        // A landing of a load that fails, or panics, is about to be wiped, perhaps one that no copy has waited for.
        let waits = WaitsFor(&self.after);
        let loaded = pipeline::load(self, jobs, landing, progress)?;
        waits.for_nothing();
        Ok(loaded)
    }
}

/// Waits for streams when it is dropped.
struct WaitsFor<'a>(&'a [(&'static Gpu, &'a Stream)]);

impl WaitsFor<'_> {
    fn for_nothing(mut self) {
        self.0 = &[];
    }
}

impl Drop for WaitsFor<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, stream)| drop(stream.synchronize()));
    }
}
