//! The algebra of the lattice and the rules of sample tables: order, addition and removal, partitions, repeated ids.

use sentry_hash::lattice::{Entry, MAX_SAMPLES, MAX_SOURCE_NAME, Partial, STATE_LEN, SampleDigest, SourceTag, State, element, path_id};
use sentry_hash::table::{ENTRY_LEN, PART_ENTRIES, Table};
use sentry_hash::{Algorithm, Backend, Cpu, Digest, HashError};

fn source(name: &str) -> SourceTag {
    SourceTag::new(name).unwrap()
}

/// `count` samples, whose ids are spread over all of 64 bits.
fn entries(count: u64) -> Vec<Entry> {
    let digest = |number: u64| SampleDigest::of_record(&number.to_le_bytes());
    (0..count).map(|number| Entry { id: path_id(&format!("{number}.png")), digest: digest(number) }).collect()
}

fn state_of<'a>(source: &SourceTag, entries: impl IntoIterator<Item = &'a Entry>) -> State {
    let mut state = State::new();
    entries.into_iter().for_each(|entry| state.add(source, entry).unwrap());
    state
}

/// A permutation of `0..count`: 7919 is prime and greater than every count used.
fn shuffled(count: usize, start: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (i * 7919 + start) % count)
}

#[test]
fn the_order_does_not_matter() {
    let (tag, entries) = (source("train"), entries(1000));
    let expected = state_of(&tag, &entries);
    assert_eq!(expected, state_of(&tag, entries.iter().rev()));
    for start in [0, 1, 500] {
        assert_eq!(expected, state_of(&tag, shuffled(1000, start).map(|index| &entries[index])));
    }
}

#[test]
fn what_is_added_and_removed_leaves_no_trace() {
    let (tag, entries) = (source("train"), entries(300));
    let mut state = state_of(&tag, &entries[..100]);
    let before = state.clone();
    entries[100..].iter().for_each(|entry| state.add(&tag, entry).unwrap());
    assert_ne!(state, before);
    shuffled(200, 3).for_each(|index| state.remove(&tag, &entries[100 + index]).unwrap());
    assert_eq!(state, before);
    assert_eq!(state.digest(), before.digest());
    entries[..100].iter().for_each(|entry| state.remove(&tag, entry).unwrap());
    assert_eq!(state, State::new());
    assert_eq!(state.remove(&tag, &entries[0]), Err(HashError::NoSamples));
    assert_eq!(state.digest(), Err(HashError::NoSamples));
}

#[test]
fn sums_of_any_partition_are_the_whole() {
    let (tag, entries) = (source("train"), entries(500));
    let whole = state_of(&tag, &entries);
    for workers in [1, 2, 3, 7, 499, 500] {
        let mut sum = State::new();
        for worker in (0..workers).rev() {
            sum.merge(&state_of(&tag, entries.iter().skip(worker).step_by(workers))).unwrap();
        }
        assert_eq!(sum, whole, "{workers} workers");
    }
    for threads in [1, 2, 5] {
        assert_eq!(Cpu::with_threads(threads).lattice_state(&tag, &entries), Ok(whole.clone()), "{threads} threads");
    }
    let stored = State::from_bytes(whole.count(), &whole.to_bytes()).unwrap();
    assert_eq!(stored, whole);
}

#[test]
fn every_input_of_an_element_counts() {
    let entry = Entry { id: 7, digest: SampleDigest::from_bytes([1; 32]) };
    let of = element(&source("train"), &entry);
    assert_ne!(of, element(&source("test"), &entry), "the source");
    assert_ne!(of, element(&source("train"), &Entry { id: 8, ..entry }), "the id");
    assert_ne!(of, element(&source("train"), &Entry { digest: SampleDigest::from_bytes([2; 32]), ..entry }), "the digest");
}

/// Why ids must be unique: a sum modulo 2^16 forgets what is added 2^16 times.
#[test]
fn a_sample_repeated_65536_times_vanishes_and_is_refused() {
    let (tag, entries) = (source("train"), entries(3));
    let honest = state_of(&tag, &entries[..2]);
    let mut repeated = honest.clone();
    (0..1 << 16).for_each(|_| repeated.add(&tag, &entries[2]).unwrap());
    assert_eq!(repeated.to_bytes(), honest.to_bytes(), "the lanes alone do not see it");
    assert_ne!(repeated.digest(), honest.digest(), "the count does");

    let mut part = Partial::new(tag);
    entries.iter().for_each(|entry| part.insert(entry).unwrap());
    let before = part.state().clone();
    for _ in 0..1 << 16 {
        assert_eq!(part.insert(&entries[2]), Err(HashError::RepeatedId { id: entries[2].id }));
    }
    assert_eq!(*part.state(), before, "what is refused changes nothing");
}

#[test]
fn an_id_seen_by_two_workers_is_refused() {
    let (tag, entries) = (source("train"), entries(20));
    let part = |range: std::ops::Range<usize>| {
        let mut part = Partial::new(tag);
        entries[range].iter().for_each(|entry| part.insert(entry).unwrap());
        part
    };
    let mut whole = part(0..10);
    let before = whole.state().clone();
    assert_eq!(whole.merge(&part(9..20)), Err(HashError::RepeatedId { id: entries[9].id }));
    assert_eq!((whole.state(), whole.ids().len()), (&before, 10), "what is refused changes nothing");
    whole.merge(&part(10..20)).unwrap();
    assert_eq!(*whole.state(), state_of(&tag, &entries));
    // Another content under the same id is a repetition too.
    let other = Entry { digest: SampleDigest::from_bytes([9; 32]), ..entries[0] };
    assert_eq!(whole.insert(&other), Err(HashError::RepeatedId { id: other.id }));
    assert_eq!(whole.merge(&Partial::new(source("test"))), Err(HashError::SourceMismatch));
}

#[test]
fn counts_and_lengths_are_bounded() {
    let zeroes = [0; STATE_LEN];
    let mut full = State::from_bytes(MAX_SAMPLES, &zeroes).unwrap();
    assert!(full.digest().is_ok());
    assert_eq!(full.add(&source("train"), &entries(1)[0]), Err(HashError::TooManySamples));
    assert_eq!(full.merge(&State::from_bytes(1, &zeroes).unwrap()), Err(HashError::TooManySamples));
    assert_eq!((full.count(), full.to_bytes()), (MAX_SAMPLES, zeroes), "what is refused changes nothing");
    for count in [MAX_SAMPLES + 1, u64::MAX] {
        assert_eq!(State::from_bytes(count, &zeroes), Err(HashError::TooManySamples));
    }
    for length in [0, STATE_LEN - 1, STATE_LEN + 1] {
        assert_eq!(State::from_bytes(1, &vec![0; length]), Err(HashError::StateLength { found: length }));
    }
    assert_eq!(SourceTag::new(""), Err(HashError::SourceName { length: 0 }));
    assert!(SourceTag::new(&"é".repeat(MAX_SOURCE_NAME / 2)).is_ok());
    assert_eq!(SourceTag::new(&"x".repeat(MAX_SOURCE_NAME + 1)), Err(HashError::SourceName { length: MAX_SOURCE_NAME + 1 }));
}

#[test]
fn sample_digests_keep_their_order() {
    let records: Vec<Vec<u8>> = (0..2000_u32).map(|number| number.to_le_bytes().repeat(number as usize % 90)).collect();
    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let expected: Vec<SampleDigest> = records.iter().map(|record| SampleDigest::of_record(record)).collect();
    for threads in [1, 3] {
        assert_eq!(Cpu::with_threads(threads).sample_digests(&slices), expected);
    }
    assert!(Cpu::new().sample_digests(&[]).is_empty());
}

#[test]
fn a_table_has_its_samples_by_id() {
    let (tag, entries) = (source("train"), entries(1000));
    let table = Table::from_entries(entries.clone()).unwrap();
    assert_eq!(table, Table::from_entries(entries.iter().rev().copied().collect()).unwrap());
    assert_eq!((table.count(), table.as_bytes().len()), (1000, 1000 * ENTRY_LEN));
    assert!(table.entries().is_sorted_by_key(|entry| entry.id));
    for entry in &entries {
        assert_eq!(table.check(entry), Ok(()));
        let changed = Entry { digest: SampleDigest::from_bytes([0; 32]), ..*entry };
        assert!(matches!(table.check(&changed), Err(HashError::SampleMismatch { .. })));
    }
    for id in [0, 1, u64::MAX] {
        assert_eq!(table.find(id), None);
        assert_eq!(table.check(&Entry { id, ..entries[0] }), Err(HashError::UnknownSample { id }));
    }
    let cpu = Cpu::with_threads(2);
    let state = state_of(&tag, &entries);
    assert_eq!(table.check_state(&tag, &state, &cpu), Ok(()));
    assert_eq!(table.check_state(&source("test"), &state, &cpu), Err(HashError::TableState));
    assert_eq!(table.check_state(&tag, &state_of(&tag, &entries[1..]), &cpu), Err(HashError::TableState));
}

#[test]
fn a_table_that_is_none_is_refused() {
    let digest = SampleDigest::from_bytes([5; 32]);
    let twice = [1, 7, 3, 7].map(|id| Entry { id, digest }).to_vec();
    assert_eq!(Table::from_entries(twice), Err(HashError::RepeatedId { id: 7 }));
    assert_eq!(Table::from_entries(Vec::new()), Err(HashError::TableLength { found: 0 }));
    let good = Table::from_entries([1, 2, 3].map(|id| Entry { id, digest }).to_vec()).unwrap();
    for length in [0, 1, 39, 41, 119] {
        assert_eq!(Table::parse(good.as_bytes()[..length].to_vec()), Err(HashError::TableLength { found: length }));
    }
    let row = |index: usize| &good.as_bytes()[index * ENTRY_LEN..(index + 1) * ENTRY_LEN];
    assert_eq!(Table::parse([row(0), row(2), row(1)].concat()), Err(HashError::TableOrder { index: 2, id: 2 }));
    assert_eq!(Table::parse([row(0), row(0)].concat()), Err(HashError::TableOrder { index: 1, id: 1 }));
}

#[test]
fn parts_of_a_table_are_checked_one_by_one() {
    let entry = |id| Entry { id, digest: SampleDigest::from_bytes([id as u8; 32]) };
    let table = Table::from_entries((0..=PART_ENTRIES as u64).map(entry).collect()).unwrap();
    let cpu = Cpu::with_threads(2);
    let digests = table.part_digests(&cpu).unwrap();
    let parts: Vec<Digest> = table.as_bytes().chunks(ENTRY_LEN << 20).map(|part| Algorithm::Blake3.digest(part)).collect();
    assert_eq!((digests.len(), &digests), (2, &parts));
    assert_eq!(table.check_parts(&digests, &cpu), Ok(()));
    assert_eq!(table.check_parts(&[digests[0], digests[0]], &cpu), Err(HashError::TablePart { part: 1 }));
    assert_eq!(table.check_parts(&digests[..1], &cpu), Err(HashError::TablePart { part: 1 }));
    assert_eq!(table.check_parts(&[&digests[..], &digests[..1]].concat(), &cpu), Err(HashError::TablePart { part: 2 }));
    assert_eq!(table.check_parts(&[], &cpu), Err(HashError::TablePart { part: 0 }));
}
