//! Sources, elements, states and tables against the vectors of the slow reference.

#[path = "common/sentry.rs"]
mod sentry;

use data_encoding::HEXLOWER;
use sentry::{file, list, text};
use sentry_hash::lattice::{Entry, Partial, SampleDigest, SourceTag, State, element, path_id};
use sentry_hash::table::Table;
use sentry_hash::{Algorithm, Backend, Cpu};
use serde_json::Value;

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// An id, which is written as text, since JSON's numbers end at 2^53.
fn id(value: &Value) -> u64 {
    text(value).parse().expect("an id")
}

fn digest(value: &Value) -> SampleDigest {
    SampleDigest::from_bytes(bytes(text(value)).try_into().expect("32 bytes"))
}

fn entries(value: &Value, count: usize) -> Vec<Entry> {
    list(value, count).iter().map(|entry| Entry { id: id(&entry["id"]), digest: digest(&entry["digest"]) }).collect()
}

fn state_of(source: &str, entries: &[Entry]) -> State {
    let mut part = Partial::new(SourceTag::new(source).unwrap());
    entries.iter().for_each(|entry| part.insert(entry).unwrap());
    part.state().clone()
}

/// A state, by its count, its bytes' SHA-256 and its lattice digest.
fn assert_state(state: &State, expected: &Value) {
    assert_eq!(Value::from(state.count()), expected["count"]);
    assert_eq!(Algorithm::Sha256.digest(&state.to_bytes()).to_hex(), text(&expected["state_sha256"]));
    assert_eq!(state.digest().unwrap().to_hex(), text(&expected["digest"]));
}

#[test]
fn tags_and_ids() {
    let vectors = file("lattice");
    for source in list(&vectors["sources"], 5) {
        let tag = SourceTag::new(text(&source["name"])).unwrap();
        assert_eq!(tag.as_bytes()[..], bytes(text(&source["tag"])));
    }
    for path in list(&vectors["path_ids"], 4) {
        assert_eq!(path_id(text(&path["path"])), id(&path["id"]), "{path}");
    }
}

#[test]
fn elements() {
    let vectors = file("lattice");
    for (index, expected) in list(&vectors["elements"], 4).iter().enumerate() {
        let source = SourceTag::new(text(&expected["source"])).unwrap();
        let lanes = element(&source, &Entry { id: id(&expected["id"]), digest: digest(&expected["digest"]) });
        assert_eq!(Algorithm::Sha256.digest(&lanes).to_hex(), text(&expected["sha256"]), "element {index}");
        assert_eq!(lanes[..32], bytes(text(&expected["first"])));
        if index == 0 {
            assert_eq!(lanes[..], bytes(text(&expected["lanes"])));
        }
    }
}

#[test]
fn states_sums_and_removals() {
    let vectors = file("lattice");
    let [hundred, one] = list(&vectors["states"], 2) else { unreachable!() };
    let samples = entries(&hundred["entries"], 100);
    let whole = state_of("train", &samples);
    assert_state(&whole, hundred);
    assert_state(&state_of("train", &entries(&one["entries"], 1)), one);
    assert_eq!(Cpu::with_threads(2).lattice_state(&SourceTag::new("train").unwrap(), &samples), Ok(whole.clone()));

    let mut sum = State::new();
    for (worker, expected) in list(&vectors["partition"], 7).iter().enumerate().rev() {
        let seen: Vec<Entry> = samples.iter().skip(worker).step_by(7).copied().collect();
        let part = state_of("train", &seen);
        assert_state(&part, expected);
        sum.merge(&part).unwrap();
    }
    assert_state(&sum, hundred);

    let mut rest = whole.clone();
    samples[40..].iter().for_each(|entry| rest.remove(&SourceTag::new("train").unwrap(), entry).unwrap());
    assert_state(&rest, &vectors["removed"]);

    let test = &vectors["sum_of_sources"]["test"];
    let mut both = state_of("test", &entries(&test["entries"], 30));
    assert_state(&both, test);
    both.merge(&whole).unwrap();
    assert_state(&both, &vectors["sum_of_sources"]["train and test"]);
}

#[test]
fn a_repeated_sample_in_a_bare_sum() {
    let vectors = file("lattice");
    let [one] = entries(&list(&vectors["states"], 2)[1]["entries"], 1)[..] else { unreachable!() };
    let mut state = State::new();
    (0..1 << 16).for_each(|_| state.add(&SourceTag::new("train").unwrap(), &one).unwrap());
    assert_eq!((state.count(), state.to_bytes()), (1 << 16, [0; 2048]));
    assert_eq!(state.digest().unwrap().to_hex(), text(&vectors["warning"]["digest"]));
}

#[test]
fn tables() {
    let vectors = file("tables");
    let cpu = Cpu::with_threads(2);
    for (expected, count) in list(&vectors["small"], 2).iter().zip([1, 5]) {
        let table = Table::from_entries(entries(&expected["entries"], count)).unwrap();
        assert_eq!(table.as_bytes(), bytes(text(&expected["table"])));
        assert_eq!(Table::parse(table.as_bytes().to_vec()), Ok(table.clone()));
        assert_parts(&table, &expected["digests"], 1);
        assert_state(&table.state(&SourceTag::new(text(&expected["source"])).unwrap(), &cpu).unwrap(), expected);
    }
    for expected in list(&vectors["large"]["tables"], 3) {
        let count = expected["entries"].as_u64().unwrap();
        let entry = |number: u64| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            Entry { id: 3 * number, digest: SampleDigest::from_bytes(digest) }
        };
        let table = Table::from_entries((0..count).rev().map(entry).collect()).unwrap();
        assert_parts(&table, &expected["digests"], if count > 1 << 20 { 2 } else { 1 });
    }
    for expected in list(&vectors["invalid"], 8) {
        assert!(Table::parse(bytes(text(&expected["table"]))).is_err(), "{}", expected["reason"]);
    }
}

fn assert_parts(table: &Table, expected: &Value, count: usize) {
    let digests = table.part_digests(&Cpu::with_threads(2)).unwrap();
    assert_eq!(digests.len(), count);
    for (digest, expected) in digests.iter().zip(list(expected, count)) {
        assert_eq!(digest.to_hex(), text(expected));
    }
}
