//! How the bytes of a file are read.
//!
//! What the system holds in its page cache is copied from there by `pread`; what it does not hold is read around the cache, with
//! `O_DIRECT`, by the disk itself. Which of the two is asked of the system for each part of a file that is read at a time, as a file may be
//! there in part.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};

use crate::cufile::{CuFile, CuFileHandle};
use crate::uring::retried;

/// Reads around the page cache start and end at multiples of it, in files and in memory: no disk has larger blocks than a page.
pub(crate) const BLOCK: u64 = 4096;

/// `f_type` of file systems whose files are in memory: tmpfs, ramfs, and huge pages.
const IN_MEMORY: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// As is best for each part of a file.
    #[default]
    Auto,
    /// Through the page cache.
    Cached,
    /// Around the page cache, where the file system can do that.
    Direct,
}

/// How a part of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Copied out of the page cache, or through it.
    Cached,
    /// Around the page cache.
    Direct,
}

/// A file to read from.
#[derive(Debug)]
pub(crate) struct Source {
    file: Arc<File>,
    /// Whether it lies in memory, where there is nothing to go around.
    in_memory: bool,
    reading: Reading,
    /// The same file, opened to be read around the page cache; nothing where that cannot be done.
    direct: OnceLock<Option<File>>,
    /// The same, known to cuFile; nothing where it does not read directly.
    cufile: OnceLock<Option<CuFileHandle>>,
}

impl Source {
    pub fn new(file: Arc<File>, reading: Reading) -> io::Result<Self> {
        let in_memory = is_in_memory(&file)?;
        Ok(Self { file, in_memory, reading, direct: OnceLock::new(), cufile: OnceLock::new() })
    }

    /// The file, to be read through the page cache.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file, to be read around the page cache.
    pub fn direct(&self) -> Option<&File> {
        if self.in_memory || self.reading == Reading::Cached {
            return None;
        }
        self.direct.get_or_init(|| open_direct(&self.file)).as_ref()
    }

    /// How a range of the file is read.
    pub fn way(&self, range: &Range<u64>) -> Way {
        let is_wanted = match self.reading {
            Reading::Cached => false,
            Reading::Direct => true,
            // Half of it in memory: the rest comes by the system's reading ahead.
            Reading::Auto => !self.in_memory && cached(&self.file, range).is_some_and(|bytes| bytes < (range.end - range.start) / 2),
        };
        if is_wanted && self.direct().is_some() { Way::Direct } else { Way::Cached }
    }

    /// The file for reads into a GPU's memory without a detour, if this machine has that.
    pub fn cufile(&self) -> Option<&CuFileHandle> {
        let open = || CuFile::open().ok()?.register(self.direct()?).ok();
        self.cufile.get_or_init(open).as_ref()
    }

    /// Fills `room` from `offset` on, through the page cache.
    pub fn read(&self, offset: u64, room: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(room, offset)
    }

    /// Reads a range around the page cache into `room`, which starts at a multiple of [`BLOCK`] and has room for the [`aligned`] range; the
    /// byte at `range.start` comes to where that range says.
    pub fn read_direct(&self, range: &Range<u64>, room: &mut [u8]) -> io::Result<()> {
        let read = taken(self.read_around(range, room))?;
        self.complete(range, room, read as u64)
    }

    /// How many bytes one such read gives.
    pub fn read_around(&self, range: &Range<u64>, room: &mut [u8]) -> io::Result<usize> {
        let Some(direct) = self.direct() else { return Err(io::ErrorKind::Unsupported.into()) };
        let wanted = aligned(range);
        let length = (wanted.end - wanted.start) as usize;
        retried(|| direct.read_at(&mut room[..length], wanted.start))
    }

    /// Reads what a read of the aligned range that gave `read` bytes has left out: a read may end early, and does at the end of the file.
    pub fn complete(&self, range: &Range<u64>, room: &mut [u8], read: u64) -> io::Result<()> {
        let start = aligned(range).start;
        let done = (start + read).max(range.start);
        if done >= range.end {
            return Ok(());
        }
        self.read(done, &mut room[(done - start) as usize..(range.end - start) as usize])
    }
}

/// What a direct read gave: nothing where the file system opens a file for direct reads and then does not do them, or not of such blocks.
/// The rest is read through the page cache then.
pub(crate) fn taken<T: Default>(read: io::Result<T>) -> io::Result<T> {
    match read {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(T::default()),
        read => read,
    }
}

/// The blocks that a range touches.
pub(crate) fn aligned(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK)
}

/// Whether a file lies in memory anyway.
pub(crate) fn is_in_memory(file: &File) -> io::Result<bool> {
    Ok(IN_MEMORY.contains(&(rustix::fs::fstatfs(file)?.f_type as u64)))
}

/// Opens an open file once more, to be read around the page cache; nothing if its file system cannot do that.
pub(crate) fn open_direct(file: &File) -> Option<File> {
    // By its number, so that it is this file whatever its name says meanwhile.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok()?);
    let (one, other) = (rustix::fs::fstat(file).ok()?, rustix::fs::fstat(&direct).ok()?);
    ((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)).then_some(direct)
}

/// How many bytes of a range are in the page cache, if the system says so: Linux 6.5 and later, to the
/// file's owner and to who may write to it.
pub(crate) fn cached(file: &File, range: &Range<u64>) -> Option<u64> {
    #[repr(C)]
    struct CachestatRange {
        offset: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Cachestat {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    /// The same on all architectures.
    const SYS_CACHESTAT: libc::c_long = 451;
    let wanted = CachestatRange { offset: range.start, length: range.end.checked_sub(range.start).filter(|&length| length > 0)? };
    let mut found = Cachestat::default();
    // SAFETY: the call reads one structure and writes the other; both have the layout that the system has had for them since it knows the call.
    let status = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const wanted, &raw mut found, 0) };
    (status == 0).then(|| found.cached.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        // In the working directory: /tmp may lie in memory.
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        std::fs::write(&file, bytes).unwrap();
        file
    }

    #[test]
    fn both_ways_read_the_same_and_notice_an_early_end() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 100).map(|index| (index % 251) as u8).collect();
        let file = file(&bytes);
        file.as_file().sync_all().unwrap();
        let source = Source::new(Arc::new(file.reopen().unwrap()), Reading::Direct).unwrap();
        let mut memory = vec![0; 6 * BLOCK as usize];
        let start = memory.as_ptr().align_offset(BLOCK as usize);
        let room = &mut memory[start..start + 5 * BLOCK as usize];
        for range in [0..1, 0..BLOCK, 1..BLOCK, BLOCK - 1..BLOCK + 1, 5000..3 * BLOCK + 100, 3 * BLOCK..3 * BLOCK + 100] {
            let wanted = &bytes[range.start as usize..range.end as usize];
            let mut read = vec![0; wanted.len()];
            source.read(range.start, &mut read).unwrap();
            assert_eq!(read, wanted);
            if source.direct().is_some() {
                room.fill(0xEE);
                source.read_direct(&range, room).unwrap();
                assert_eq!(&room[(range.start % BLOCK) as usize..][..wanted.len()], wanted);
            }
        }
        for range in [3 * BLOCK..3 * BLOCK + 101, 4 * BLOCK..4 * BLOCK + 1] {
            assert_eq!(
                source.read(range.start, &mut vec![0; (range.end - range.start) as usize]).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
            if source.direct().is_some() {
                assert_eq!(source.read_direct(&range, room).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }

    #[test]
    fn what_was_just_written_is_in_the_page_cache_and_what_was_dropped_is_not() {
        let file = file(&[1; 64 << 10]);
        file.as_file().sync_all().unwrap();
        let range = 0..64 << 10;
        let source = Source::new(Arc::new(file.reopen().unwrap()), Reading::Auto).unwrap();
        assert_eq!(source.way(&range), Way::Cached);
        // Where the system does not say, or keeps it all the same, there is nothing to test.
        let _ = rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed);
        if cached(file.as_file(), &range) == Some(0) && source.direct().is_some() {
            assert_eq!(source.way(&range), Way::Direct);
        }
        let cached_only = Source::new(Arc::new(file.reopen().unwrap()), Reading::Cached).unwrap();
        assert_eq!(cached_only.way(&range), Way::Cached);
    }
}
