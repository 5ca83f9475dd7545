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
