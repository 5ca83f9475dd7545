//! Which parts of a file are read at a time, and where its digests are computed. Plain arithmetic.
//!
//! ```text
//! file      ├──── tensor a ────────────┼─ b ─┼─ c ─┼──────────── tensor d ─────────────┤
//! blocks    ├───┼───┼───┼───┼───┼───┼──┼─────┼─────┼───┼───┼───┼───┼───┼───┼───┼───┼───┤   cut from each tensor's own first byte
//! units     ├────────────────────┼─────────────────┼───────────────────┼───────────────┤   at most so long, and each of whole blocks
//! ```
//!
//! A block is a subtree of its tensor's digest, so that units are hashed by themselves, in any order. What no GPU hashes has no blocks,
//! and is cut anywhere.

use std::ops::Range;

use sentry_cuda::{Gpu, TreeHasher};
use sentry_hash::Algorithm;
use sentry_hash::files::Request;

use crate::buffers::UNIT;
use crate::landing::{Landing, Region};

/// A digest that a GPU computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Which of the file's requests.
    pub request: usize,
    /// Which bytes of the file; one region has them all.
    pub range: Range<u64>,
    pub algorithm: Algorithm,
    /// The multiple of bytes, from its first one on, at which it may be cut.
    pub block: u64,
}

/// What becomes of the requests of one file.
#[derive(Debug)]
pub(crate) struct Split {
    /// Those for GPUs, in the order of the file. No two overlap.
    pub messages: Vec<Message>,
    /// Those for this machine's cores, by index.
    pub on_cores: Vec<usize>,
}

/// Lets each digest be computed where its bytes lie, if one GPU has them all and computes its algorithm; else by the cores.
pub(crate) fn split(requests: &[Request], landing: &Landing<'_>) -> Split {
    let (mut messages, mut on_cores) = (Vec::new(), Vec::new());
    for (index, Request { range, algorithm }) in requests.iter().enumerate() {
        let holds_all =
            |region: &&Region<'_>| region.room.device().is_some() && region.range.start <= range.start && range.end <= region.range.end;
        let is_whole = !range.is_empty() && landing.regions_in(range).first().filter(holds_all).is_some();
        match TreeHasher::block_len_of(*algorithm) {
            Ok(block) if is_whole && block <= UNIT => {
                messages.push(Message { request: index, range: range.clone(), algorithm: *algorithm, block })
            }
            _ => on_cores.push(index),
        }
    }
    messages.sort_by_key(|message| message.range.start);
    // A cut fits the blocks of one message only.
    let mut end = 0;
    messages.retain(|message| {
        let is_apart = message.range.start >= end;
        if is_apart {
            end = message.range.end;
        } else {
            on_cores.push(message.request);
        }
        is_apart
    });
    on_cores.sort_unstable();
    Split { messages, on_cores }
}

/// A part of a file that is read at a time: at most [`UNIT`] bytes, of which some may go to one GPU, and none to another.
pub(crate) type Unit = Range<u64>;

/// The bytes that some digest is asked of, and no others: whatever lands has a digest. Ranges in the order of the file, with gaps between.
pub(crate) fn wanted(requests: &[Request]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = requests.iter().map(|request| request.range.clone()).filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let touches = next.start <= range.end;
        if touches {
            range.end = range.end.max(next.end);
        }
        touches
    });
    ranges
}

/// All units of some bytes of a file: in its order, without a gap.
pub(crate) fn units(span: Range<u64>, messages: &[Message], landing: &Landing<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut start = span.start;
    while start < span.end {
        let mut end = span.end.min(start + UNIT);
        let mut on_devices =
            landing.regions_in(&(start..end)).iter().filter_map(|region| Some((region, region.room.device()?.gpu().ordinal())));
        if let Some((_, first)) = on_devices.next()
            && let Some((other, _)) = on_devices.find(|(_, ordinal)| *ordinal != first)
        {
            end = other.range.start;
        }
        if let Some(message) = message_at(messages, end)
            && message.range.start < end
        {
            let whole = message.range.start + (end - message.range.start) / message.block * message.block;
            // Never nothing: a message that begins earlier is at a block's begin, and a block is no longer than a unit.
            if whole > start {
                end = whole;
            }
        }
        units.push(start..end);
        start = end;
    }
    units
}

/// The message that reaches beyond `offset` and does not begin after it.
fn message_at(messages: &[Message], offset: u64) -> Option<&Message> {
    let next = messages.partition_point(|message| message.range.end <= offset);
    messages.get(next).filter(|message| message.range.start <= offset)
}

/// The messages that have bytes in a range, with their places among all.
pub(crate) fn messages_in<'a>(messages: &'a [Message], range: &Range<u64>) -> impl Iterator<Item = (usize, &'a Message)> + use<'a> {
    let (first, end) = (messages.partition_point(|message| message.range.end <= range.start), range.end);
    messages.iter().enumerate().skip(first).take_while(move |(_, message)| message.range.start < end)
}

/// The GPUs that a file goes to, each once.
pub(crate) fn gpus<'a>(landings: impl Iterator<Item = &'a Landing<'a>>) -> Vec<&'static Gpu> {
    let mut gpus: Vec<&'static Gpu> = Vec::new();
    for room in landings.flat_map(Landing::regions).filter_map(|region| region.room.device()) {
        if gpus.iter().all(|gpu| gpu.ordinal() != room.gpu().ordinal()) {
            gpus.push(room.gpu());
        }
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 256 << 10;

    fn nowhere() -> Landing<'static> {
        Landing::new(Vec::new()).expect("no regions overlap")
    }

    fn message(range: Range<u64>) -> Message {
        Message { request: 0, range, algorithm: Algorithm::Blake3, block: BLOCK }
    }

    #[test]
    fn units_are_whole_blocks_of_their_messages() {
        let lengths = [5 * UNIT + 17, 1, 100_000, BLOCK, 3 * BLOCK + 1, 100_000, 100_000, UNIT, 12];
        let mut end = 1001;
        let messages: Vec<Message> = lengths
            .iter()
            .map(|length| {
                end += length;
                message(end - length..end)
            })
            .collect();
        let units = units(1001..end + 50, &messages, &nowhere());
        let mut start = 1001;
        for unit in &units {
            assert_eq!(unit.start, start, "without a gap");
            assert!(unit.end > unit.start && unit.end - unit.start <= UNIT);
            for (_, message) in messages_in(&messages, unit) {
                let first = message.range.start.max(unit.start) - message.range.start;
                let last = message.range.end.min(unit.end);
                assert!(first.is_multiple_of(BLOCK), "{unit:?} {message:?}");
                assert!(last == message.range.end || (last - message.range.start).is_multiple_of(BLOCK), "{unit:?} {message:?}");
            }
            start = unit.end;
        }
        assert_eq!(start, end + 50);
        assert!(units.len() <= 12, "few cuts: {units:?}");
    }

    #[test]
    fn only_what_some_digest_is_asked_of_is_wanted() {
        let request = |range| Request { range, algorithm: Algorithm::Sha256 };
        assert_eq!(wanted(&[]), []);
        assert_eq!(wanted(&[request(5..5)]), []);
        let requests = [request(30..40), request(0..10), request(10..20), request(12..15), request(35..50), request(7..7)];
        assert_eq!(wanted(&requests), [0..20, 30..50]);
    }

    #[test]
    fn the_cores_compute_what_no_gpu_holds() {
        let request = |range| Request { range, algorithm: Algorithm::Blake3 };
        let Split { messages, on_cores } = split(&[request(0..10), request(10..10), request(10..20)], &nowhere());
        assert!(messages.is_empty());
        assert_eq!(on_cores, [0, 1, 2]);
    }
}

/// Over the emulated driver, or on GPUs: a region on a GPU has to name one.
#[cfg(all(test, feature = "device-tests"))]
mod device_tests {
    #![allow(unsafe_code)]

    use sentry_cuda::DeviceRoom;

    use super::*;
    use crate::landing::Room;

    /// Numbers that look random and are the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }

        /// The length of a region or a tensor.
        fn length(&mut self) -> u64 {
            let most = [1, 1000, 300_000, UNIT, 4 * UNIT][self.below(5) as usize];
            1 + self.below(most)
        }
    }

    /// Room at addresses where nothing is: a plan touches none.
    fn region(range: Range<u64>, gpu: Option<&'static Gpu>) -> Region<'static> {
        let length = range.end - range.start;
        // SAFETY: nobody writes to it, as the landing is kept.
        let room = match gpu {
            Some(gpu) => Room::Device(unsafe { DeviceRoom::new(gpu, 1 << 20, length) }),
            None => Room::Host(unsafe { crate::HostRoom::new(1 << 20, length) }),
        };
        Region { range, room }
    }

    /// Regions on GPUs and not, with gaps, one after the other; their end.
    fn landing(numbers: &mut Numbers, gpus: &[&'static Gpu]) -> (Landing<'static>, u64) {
        let (mut regions, mut end) = (Vec::new(), 0);
        for _ in 0..1 + numbers.below(6) {
            let start = end + [0, 0, numbers.below(5000)][numbers.below(3) as usize];
            end = start + numbers.length();
            regions.push(region(start..end, gpus.get(numbers.below(gpus.len() as u64 + 1) as usize).copied()));
        }
        (Landing::new(regions).unwrap(), end)
    }

    fn requests(numbers: &mut Numbers, size: u64) -> Vec<Request> {
        let (mut requests, mut start) = (Vec::new(), numbers.below(100));
        while start < size {
            let end = size.min(start + numbers.length());
            let algorithm = Algorithm::ALL[numbers.below(Algorithm::ALL.len() as u64) as usize];
            requests.push(Request { range: start..end, algorithm });
            // Some overlap, some abut, some leave a gap.
            start = [end, end, end + numbers.below(9000), end - numbers.below(end - start)][numbers.below(4) as usize];
        }
        requests
    }

    #[test]
    fn any_file_anywhere_is_cut_as_its_digests_and_places_allow() {
        let gpus: Vec<_> = (0..Gpu::count().unwrap().min(2)).map(|ordinal| Gpu::open(ordinal).unwrap()).collect();
        let numbers = &mut Numbers(7);
        let mut on_gpus = 0;
        for _ in 0..2000 {
            let (landing, size) = landing(numbers, &gpus);
            let requests = requests(numbers, size);
            let Split { messages, on_cores } = split(&requests, &landing);
            on_gpus += messages.len();

            // Each digest is computed in one place.
            let mut all: Vec<usize> = messages.iter().map(|message| message.request).chain(on_cores).collect();
            all.sort_unstable();
            assert_eq!(all, (0..requests.len()).collect::<Vec<_>>());
            assert!(messages.is_sorted_by(|one, next| one.range.end <= next.range.start), "{messages:?}");
            for message in &messages {
                let Request { range, algorithm } = &requests[message.request];
                assert_eq!((range, *algorithm), (&message.range, message.algorithm));
                assert_eq!(message.block, TreeHasher::block_len_of(*algorithm).unwrap());
                let [one] = landing.regions_in(range) else { panic!("{range:?} lies in several regions") };
                assert!(one.room.device().is_some() && one.range.start <= range.start && range.end <= one.range.end);
            }

            // Every wanted byte is in one unit, and each unit has one GPU and whole blocks.
            for span in wanted(&requests) {
                let units = units(span.clone(), &messages, &landing);
                let ends = units.iter().map(|unit| unit.end);
                assert!(
                    std::iter::once(span.start).chain(ends.clone()).eq(units.iter().map(|unit| unit.start).chain([span.end])),
                    "{units:?}"
                );
                for unit in &units {
                    assert!(unit.start < unit.end && unit.end - unit.start <= UNIT);
                    let mut ordinals = landing.regions_in(unit).iter().filter_map(|region| Some(region.room.device()?.gpu().ordinal()));
                    let first = ordinals.next();
                    assert!(ordinals.all(|ordinal| Some(ordinal) == first), "{unit:?} goes to several GPUs");
                    for (_, message) in messages_in(&messages, unit) {
                        let is_cut = |at: u64| (message.range.start + 1..message.range.end).contains(&at);
                        let is_whole = |at: u64| !is_cut(at) || (at - message.range.start).is_multiple_of(message.block);
                        assert!(is_whole(unit.start) && is_whole(unit.end), "{unit:?} {message:?}");
                    }
                }
            }
            landing.keep();
        }
        assert!(on_gpus > 1000, "{on_gpus}");
    }
}
