//! How fast each construction is here: one line of JSON for each, with its seconds and its bytes or items.
//!
//! One process is one round; `benches/constructions.py` runs several, with OpenSSL's own measurement in between, and
//! reports medians.

use std::hint::black_box;
use std::time::Instant;

use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, element};
use sentry_hash::table::Table;
use sentry_hash::{Algorithm, Backend, Cpu};

/// Bytes of the one message that every algorithm hashes: far beyond any cache.
const MESSAGE: usize = 256 << 20;

/// Samples for the lattice, and bytes of the records.
const SAMPLES: usize = 200_000;
const RECORD: usize = 256;

fn main() {
    let message: Vec<u8> = (0..MESSAGE).map(|i| (i % 251) as u8).collect();
    let all = Cpu::new();
    for backend in [Cpu::with_threads(1), all] {
        for algorithm in Algorithm::ALL {
            // A serial hash of one message is not faster with more threads.
            if backend.threads() > 1 && algorithm.tree().is_none() {
                continue;
            }
            let digest = || backend.digest_many(algorithm, &[&message]).expect("the CPU computes every digest");
            report(&format!("{algorithm}"), backend.threads(), "bytes", MESSAGE, digest);
        }
        samples(&backend, &message);
    }
}

fn samples(backend: &Cpu, message: &[u8]) {
    let source = SourceTag::new("bench").expect("a name");
    let records: Vec<&[u8]> = message.chunks_exact(RECORD).take(SAMPLES).collect();
    let digests = || backend.sample_digests(&records);
    report(&format!("sample digests of {RECORD}-byte records"), backend.threads(), "items", SAMPLES, digests);

    let entry = |id| Entry { id, digest: SampleDigest::from_bytes([id as u8; 32]) };
    let entries: Vec<Entry> = (0..SAMPLES as u64).map(entry).collect();
    if backend.threads() == 1 {
        let elements = || entries.iter().fold(0_u64, |sum, entry| sum + u64::from(element(&source, entry)[7]));
        report("lattice elements", 1, "items", SAMPLES, elements);
    }
    let state = || backend.lattice_state(&source, &entries).expect("few samples");
    report("lattice elements, summed", backend.threads(), "items", SAMPLES, state);

    let table = Table::from_entries(entries.clone()).expect("every id is there once");
    let parse = || Table::parse(table.as_bytes().to_vec()).and_then(|table| table.part_digests(backend)).expect("a table");
    report("sample table, read and hashed", backend.threads(), "items", SAMPLES, parse);
    let find = || entries.iter().filter(|entry| table.check(entry).is_ok()).count();
    if backend.threads() == 1 {
        report("sample table, samples checked", 1, "items", SAMPLES, find);
    }
}

/// Times `work` once, after a first run that is not counted where it is short.
fn report<T>(what: &str, threads: usize, unit: &str, amount: usize, work: impl Fn() -> T) {
    if unit == "items" {
        black_box(work());
    }
    let began = Instant::now();
    black_box(work());
    let seconds = began.elapsed().as_secs_f64();
    println!(r#"{{"what": "{what}", "threads": {threads}, "{unit}": {amount}, "seconds": {seconds}}}"#);
}
