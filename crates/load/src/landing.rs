//! Where the bytes of a file go.
//!
//! Nobody has checked what landed somewhere. So a [`Landing`] zeroes its memory when it is dropped; only whoever has compared the digests
//! keeps it.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;

use sentry_cuda::DeviceRoom;
use sentry_hash::files::Receiver;

/// Room in this machine's memory, to be written to.
pub struct HostRoom<'memory> {
    address: *mut u8,
    length: u64,
    memory: PhantomData<&'memory mut [u8]>,
}

// SAFETY: plain memory that is this value's own as long as it lives.
unsafe impl Send for HostRoom<'_> {}
unsafe impl Sync for HostRoom<'_> {}

impl fmt::Debug for HostRoom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:p}", self.length, self.address)
    }
}

impl<'memory> From<&'memory mut [u8]> for HostRoom<'memory> {
    fn from(bytes: &'memory mut [u8]) -> Self {
        Self { address: bytes.as_mut_ptr(), length: bytes.len() as u64, memory: PhantomData }
    }
}

impl HostRoom<'_> {
    /// Memory that another library reports.
    ///
    /// # Safety
    /// As long as this value lives, `length` bytes from `address` on are there, can be written to, and are used by nobody else.
    pub unsafe fn new(address: usize, length: u64) -> Self {
        Self { address: std::ptr::with_exposed_provenance_mut(address), length, memory: PhantomData }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A part of it.
    ///
    /// # Safety
    /// No two parts that overlap are used at the same time.
    #[allow(clippy::mut_from_ref, reason = "the memory is not this value's own")]
    pub(crate) unsafe fn part(&self, start: u64, length: u64) -> &mut [u8] {
        assert!(start <= self.length && length <= self.length - start, "a range beyond the room");
        if length == 0 {
            return &mut [];
        }
        // SAFETY: the bounds were checked; the rest is the caller's and the maker's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address.wrapping_add(start as usize), length as usize) }
    }
}

/// Room in some memory.
#[derive(Debug)]
pub enum Room<'memory> {
    /// This machine's.
    Host(HostRoom<'memory>),
    /// A GPU's.
    Device(DeviceRoom<'memory>),
}

impl Room<'_> {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Host(room) => room.len(),
            Self::Device(room) => room.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn device(&self) -> Option<&DeviceRoom<'_>> {
        match self {
            Self::Host(_) => None,
            Self::Device(room) => Some(room),
        }
    }
}

/// Some bytes of a file, and the room for just these.
#[derive(Debug)]
pub struct Region<'memory> {
    /// Which bytes.
    pub range: Range<u64>,
    /// Where they go.
    pub room: Room<'memory>,
}

impl Region<'_> {
    /// The part of it that lies in a range of the file: its begin in the file, its begin in the room, its length.
    pub(crate) fn part(&self, range: &Range<u64>) -> (u64, u64, u64) {
        let start = self.range.start.clamp(range.start, range.end);
        let end = self.range.end.clamp(start, range.end);
        (start, start.saturating_sub(self.range.start), end - start)
    }
}

/// The room for a file, or for parts of it.
#[derive(Debug)]
pub struct Landing<'memory> {
    /// In the order of the file; no two overlap.
    regions: Vec<Region<'memory>>,
    is_kept: bool,
}

impl<'memory> Landing<'memory> {
    /// Room for some regions of a file, in any order.
    ///
    /// # Errors
    /// Two regions overlap, or one has another room than its length.
    pub fn new(mut regions: Vec<Region<'memory>>) -> io::Result<Self> {
        regions.retain(|region| !region.range.is_empty() || !region.room.is_empty());
        regions.sort_by_key(|region| region.range.start);
        let fits = |region: &Region<'_>| region.range.end.checked_sub(region.range.start) == Some(region.room.len());
        if !regions.iter().all(fits) {
            return Err(io::Error::other("a region of a file has another room than its length"));
        }
        if !regions.is_sorted_by(|one, next| one.range.end <= next.range.start) {
            return Err(io::Error::other("two regions of a file overlap"));
        }
        Ok(Self { regions, is_kept: false })
    }

    /// Ends it without wiping what landed: for whoever has compared the digests, and nobody else.
    pub fn keep(mut self) {
        self.is_kept = true;
    }

    pub(crate) fn regions(&self) -> &[Region<'memory>] {
        &self.regions
    }

    /// The regions that have a part in a range of the file.
    pub(crate) fn regions_in(&self, range: &Range<u64>) -> &[Region<'memory>] {
        let first = self.regions.partition_point(|region| region.range.end <= range.start);
        let last = self.regions.partition_point(|region| region.range.start < range.end);
        &self.regions[first..last.max(first)]
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        for region in &self.regions {
            match &region.room {
                // SAFETY: whoever loaded is done, and this is the only owner left.
                Room::Host(room) => unsafe { room.part(0, room.len()) }.fill(0),
                // Nothing has to be made for it, so that it only fails if the GPU cannot be reached any more, and nobody reads from that.
                Room::Device(room) => drop(room.wipe()),
            }
        }
    }
}

/// The bytes are where they belong when they come by here. The head of a file is not: it was read, and checked, when the file was opened.
impl Receiver for Landing<'_> {
    fn receive(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(range: Range<u64>, bytes: &mut [u8]) -> Region<'_> {
        Region { range, room: Room::Host(bytes.into()) }
    }

    #[test]
    fn regions_do_not_overlap_and_have_their_room() {
        let (mut one, mut other) = ([0; 4], [0; 4]);
        assert!(Landing::new(vec![region(4..8, &mut one), region(0..4, &mut other)]).is_ok());
        assert!(Landing::new(vec![region(3..7, &mut one), region(0..4, &mut other)]).is_err());
        assert!(Landing::new(vec![region(0..5, &mut one)]).is_err());
        let reversed = Region { range: Range { start: 5, end: 1 }, room: Room::Host((&mut one[..]).into()) };
        assert!(Landing::new(vec![reversed]).is_err());
    }

    #[test]
    fn what_nobody_keeps_is_wiped() {
        let mut bytes = [7; 4];
        drop(Landing::new(vec![region(0..4, &mut bytes)]).unwrap());
        assert_eq!(bytes, [0; 4]);
        let mut bytes = [7; 4];
        Landing::new(vec![region(0..4, &mut bytes)]).unwrap().keep();
        assert_eq!(bytes, [7; 4]);
    }

    #[test]
    fn parts_of_regions() {
        let mut bytes = [0; 10];
        let landing = Landing::new(vec![region(10..20, &mut bytes)]).unwrap();
        assert!(landing.regions_in(&(0..10)).is_empty());
        assert!(landing.regions_in(&(20..30)).is_empty());
        assert_eq!(landing.regions_in(&(15..30))[0].part(&(15..30)), (15, 5, 5));
        assert_eq!(landing.regions_in(&(0..12))[0].part(&(0..12)), (10, 0, 2));
    }
}
