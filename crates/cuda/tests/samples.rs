//! Samples that lie in a GPU's memory: digests and states as on the CPU, and what is refused or goes wrong. On whatever device the
//! driver shows.

#[path = "../../hash/tests/common/repository.rs"]
mod repository;

mod emulated;

use std::env;
use std::fs;

use data_encoding::HEXLOWER;
use sentry_cuda::{Column, DeviceMemory, Gpu, GpuError, Ids, Samples, SamplesError};
use sentry_hash::Algorithm;
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};

/// Longest body that the kernels of samples hash.
const LONGEST_BODY: u64 = 128 << 10;

fn gpu() -> &'static Gpu {
    Gpu::open(0).expect("a driver with a device: `make kernels` brings an emulated one")
}

fn source() -> SourceTag {
    SourceTag::new("train").unwrap()
}

/// Memory of the GPU that holds `bytes`.
fn copied(bytes: &[u8]) -> Result<DeviceMemory, GpuError> {
    let mut memory = Gpu::open(0)?.allocate(bytes.len() as u64)?;
    memory.fill(bytes)?;
    Ok(memory)
}

fn on_gpu(bytes: &[u8]) -> DeviceMemory {
    copied(bytes).unwrap()
}

/// A field of all samples: bodies of `bytes` each, `stride` bytes apart, from byte `start` of some memory on.
#[derive(Debug, Clone, Copy)]
struct Field {
    bytes: u64,
    stride: u64,
    start: u64,
}

/// A field whose bodies lie `gap` bytes apart, at no alignment in particular.
fn field(bytes: u64, gap: u64) -> Field {
    Field { bytes, stride: bytes + gap, start: gap % 16 }
}

/// Samples here and in the GPU's memory. Byte i of column c is (i + 7c) mod 251.
struct Dataset {
    fields: Vec<Field>,
    count: u64,
    content: Vec<Vec<u8>>,
    memory: Vec<DeviceMemory>,
}

impl Dataset {
    fn new(fields: &[Field], count: u64) -> Self {
        Self::try_new(fields, count).unwrap()
    }

    fn try_new(fields: &[Field], count: u64) -> Result<Self, GpuError> {
        let length = |field: &Field| field.start + count.saturating_sub(1) * field.stride + field.bytes;
        let byte = |column: usize, index: u64| ((index + 7 * column as u64) % 251) as u8;
        let content = |(column, field)| (0..length(field)).map(|index| byte(column, index)).collect();
        let content: Vec<Vec<u8>> = fields.iter().enumerate().map(content).collect();
        let memory = content.iter().map(|bytes| copied(bytes)).collect::<Result<_, _>>()?;
        Ok(Self { fields: fields.to_vec(), count, content, memory })
    }

    fn body(&self, column: usize, sample: u64) -> &[u8] {
        let Field { bytes, stride, start } = self.fields[column];
        &self.content[column][(start + sample * stride) as usize..][..bytes as usize]
    }

    /// A record of BYTES fields, with what `body` gives for each column, and where these bodies begin.
    fn record<'a>(&self, body: impl Fn(usize) -> std::borrow::Cow<'a, [u8]>) -> (Vec<u8>, Vec<u64>) {
        let (mut record, mut offsets) = (Vec::new(), Vec::new());
        for (column, field) in self.fields.iter().enumerate() {
            for text in [format!("field {column:03}").as_bytes(), b"BYTES"] {
                record.extend((text.len() as u32).to_le_bytes());
                record.extend(text);
            }
            record.extend(0_u32.to_le_bytes());
            record.extend(field.bytes.to_le_bytes());
            offsets.push(record.len() as u64);
            record.extend_from_slice(&body(column));
        }
        if self.fields.is_empty() {
            record.extend(b"\x01\0\0\0x\x04\0\0\0NULL\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        (record, offsets)
    }

    fn samples(&self) -> Samples<'_> {
        let hole = |column: usize| vec![0; if self.fields[column].bytes > 64 { 32 } else { self.fields[column].bytes as usize }];
        let (record, offsets) = self.record(|column| hole(column).into());
        let column = |(column, &offset): (usize, &u64)| {
            let Field { bytes, stride, start } = self.fields[column];
            let memory = &self.memory[column];
            Column { offset, data: memory.bytes(start, memory.len() - start), stride, bytes }
        };
        Samples::new(&record, offsets.iter().enumerate().map(column).collect(), self.count).unwrap()
    }

    /// What the CPU makes of them.
    fn expected(&self) -> Vec<SampleDigest> {
        let body = |column, sample| match self.body(column, sample) {
            long if long.len() > 64 => Algorithm::Blake3.digest(long).as_bytes().to_vec().into(),
            short => short.into(),
        };
        (0..self.count).map(|sample| SampleDigest::of_record(&self.record(|column| body(column, sample)).0)).collect()
    }
}

fn state(ids: impl IntoIterator<Item = u64>, digests: &[SampleDigest]) -> State {
    let mut state = State::new();
    for (id, &digest) in ids.into_iter().zip(digests) {
        state.add(&source(), &Entry { id, digest }).unwrap();
    }
    assert_eq!(state.count(), digests.len() as u64);
    state
}

/// Compares digests, and the states under ids of both kinds, with what the CPU says.
fn check(dataset: &Dataset) {
    let (samples, expected) = (dataset.samples(), dataset.expected());
    let stream = gpu().stream().unwrap();
    let what = format!("{} samples of {:?}", dataset.count, dataset.fields);
    assert_eq!(samples.count(), dataset.count);
    assert_eq!(gpu().sample_digests(&samples, &stream).unwrap(), expected, "{what}");

    // Up to the last number that there is.
    let first = u64::MAX - dataset.count.saturating_sub(1);
    let found = gpu().samples_state(&source(), &samples, Ids::Ordinals { first }, &stream);
    assert_eq!(found.unwrap(), state((0..dataset.count).map(|sample| first + sample), &expected), "{what}");

    let ids: Vec<u64> = (0..dataset.count).map(|sample| (sample + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let stored: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let memory = on_gpu(&stored);
    let found = gpu().samples_state(&source(), &samples, Ids::Column(memory.bytes(0, memory.len())), &stream);
    assert_eq!(found.unwrap(), state(ids, &expected), "{what}");
}

#[test]
fn numbers_of_samples_at_the_bounds_of_blocks() {
    let short = [field(8, 0), field(1, 0), field(64, 9), field(4, 28)];
    let mixed = [field(3072, 0), field(8, 0), field(200, 1), field(65, 2), field(7, 3), field(3072, 5)];
    for count in [0, 1, 127, 128, 129, 1000] {
        check(&Dataset::new(&short, count));
        check(&Dataset::new(&mixed, count));
    }
}

#[test]
fn bodies_of_every_length() {
    for bytes in 0..=200 {
        check(&Dataset::new(&[field(bytes, bytes % 5), field(3, 1)], 3));
    }
}

#[test]
fn bodies_at_the_bounds_of_chunks_and_launches() {
    for bytes in [1023, 1024, 1025, 2048, 16 << 10, (64 << 10) + 1, LONGEST_BODY - 1, LONGEST_BODY, LONGEST_BODY + 1, 200 << 10] {
        for gap in [0, 1, 16] {
            check(&Dataset::new(&[field(8, 0), field(bytes, gap)], 2));
        }
    }
    // Several columns that go ways of their own.
    check(&Dataset::new(&[field(200 << 10, 7), field(100, 0), field(LONGEST_BODY + 1, 0), field(2000, 1), field(9, 0)], 5));
}

#[test]
fn bodies_that_samples_share() {
    let fields =
        [Field { bytes: 8, stride: 0, start: 3 }, Field { bytes: 100, stride: 0, start: 0 }, Field { bytes: 65, stride: 1, start: 1 }];
    check(&Dataset::new(&fields, 130));
}

#[test]
fn records_of_every_number_of_blocks() {
    let overhead = 4 + 9 + 4 + 5 + 4 + 8;
    check(&Dataset::new(&[], 10));
    for blocks in 1..=16_u64 {
        for length in [64 * blocks - 1, 64 * blocks, 64 * blocks + 1] {
            // As many fields as fit, of which the first ones have the bytes that remain.
            let number = length / overhead;
            let mut rest = length - number * overhead;
            let fields: Vec<Field> = (0..number)
                .map(|_| {
                    let bytes = rest.min(64);
                    rest -= bytes;
                    field(bytes, 1)
                })
                .collect();
            let dataset = Dataset::new(&fields, 3);
            if length <= 1024 {
                assert_eq!(dataset.record(|column| vec![0; fields[column].bytes as usize].into()).0.len() as u64, length);
                check(&dataset);
            }
        }
    }
}

/// Samples with so many columns that a batch does not take all of them: 8 MiB are 16,131 entries, each with 15 digests, or 16,384
/// digests with as many.
fn many(count: u64) -> Result<Dataset, GpuError> {
    let fields: Vec<Field> = (0..15).map(|column| Field { bytes: 65, stride: 3, start: column }).collect();
    Dataset::try_new(&fields, count)
}

const MANY: u64 = 17_000;

#[test]
fn several_batches() {
    for count in [16_131, 16_132, 16_384, 33_000] {
        let dataset = many(count).unwrap();
        let (samples, expected) = (dataset.samples(), dataset.expected());
        let stream = gpu().stream().unwrap();
        assert!(gpu().sample_digests(&samples, &stream).unwrap() == expected, "{count} samples");
        let found = gpu().samples_state(&source(), &samples, Ids::Ordinals { first: 5 }, &stream).unwrap();
        assert!(found == state(5.., &expected), "{count} samples");
    }
}

#[test]
fn a_column_of_digests_is_that_of_their_bodies() {
    let dataset = Dataset::new(&[field(3072, 1), field(8, 0)], 20);
    let digests: Vec<u8> = (0..20).flat_map(|sample| Algorithm::Blake3.digest(dataset.body(0, sample)).as_bytes().to_vec()).collect();
    let (record, offsets) = dataset.record(|column| vec![0; [32, 8][column]].into());
    let memory = on_gpu(&digests);
    let hashed = Column { offset: offsets[0], data: memory.bytes(0, memory.len()), stride: 32, bytes: 32 };
    let label = Column { offset: offsets[1], data: dataset.memory[1].bytes(0, 160), stride: 8, bytes: 8 };
    let samples = Samples::new(&record, vec![hashed, label], 20).unwrap();
    let stream = gpu().stream().unwrap();
    assert_eq!(gpu().sample_digests(&samples, &stream).unwrap(), dataset.expected());
}

/// Each record whose fields are plain bytes, as three samples.
#[test]
fn published_records() {
    let text = fs::read_to_string(repository::root().join("vectors/sentry/records.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stream = gpu().stream().unwrap();
    let mut used = 0;
    for vector in vectors["valid"].as_array().unwrap() {
        let unhex = |name: &str| HEXLOWER.decode(vector[name].as_str().unwrap().as_bytes()).unwrap();
        let (record, digest) = (unhex("record"), unhex("sample_digest"));
        let is_plain = vector["fields"].as_array().unwrap().iter().all(|field| field.get("bytes").or(field.get("period251")).is_some());
        if record.len() > 1024 || !is_plain {
            continue;
        }
        used += 1;
        let bodies = bodies(&record);
        let mut blank = record.clone();
        bodies.iter().for_each(|body| blank[body.clone()].fill(0));
        let memory = on_gpu(&record.repeat(3));
        let column = |body: &std::ops::Range<usize>| Column {
            offset: body.start as u64,
            data: memory.bytes(body.start as u64, memory.len() - body.start as u64),
            stride: record.len() as u64,
            bytes: body.len() as u64,
        };
        let samples = Samples::new(&blank, bodies.iter().map(column).collect(), 3).unwrap();
        let digest = SampleDigest::from_bytes(digest.try_into().unwrap());
        assert_eq!(gpu().sample_digests(&samples, &stream).unwrap(), [digest; 3], "{}", vector["what"]);
    }
    assert!(used > 100, "{used} records");
}

/// Where the bodies of a record's fields are, which a long one's digest stands for.
fn bodies(record: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut bodies) = (0, Vec::new());
    let integer = |at: &mut usize, length: usize| {
        let bytes = &record[*at..*at + length];
        *at += length;
        bytes.iter().rev().fold(0_usize, |number, &byte| number << 8 | usize::from(byte))
    };
    while at < record.len() {
        for _name_and_type in 0..2 {
            at += integer(&mut at, 4);
        }
        at += 8 * integer(&mut at, 4);
        let bytes = integer(&mut at, 8);
        let end = at + if bytes > 64 { 32 } else { bytes };
        bodies.push(at..end);
        at = end;
    }
    bodies
}

#[test]
fn layouts_that_are_refused() {
    let memory = gpu().allocate(1000).unwrap();
    let column = |offset, length, stride, bytes| Column { offset, data: memory.bytes(0, length), stride, bytes };
    let refused = |record: &[u8], columns: &[Column<'_>], count| Samples::new(record, columns.to_vec(), count).unwrap_err();

    assert_eq!(refused(&[], &[], 1), SamplesError::RecordLength { found: 0 });
    assert_eq!(refused(&[0; 1025], &[], 1), SamplesError::RecordLength { found: 1025 });
    assert!(Samples::new(&[0; 1024], Vec::new(), 1 << 32).is_ok());
    assert_eq!(refused(&[0; 1024], &[], (1 << 32) + 1), SamplesError::Count { found: (1 << 32) + 1 });

    // Behind the one before it, and not in it.
    let first = column(10, 1000, 8, 8);
    assert!(Samples::new(&[0; 100], vec![first, column(18, 1000, 8, 8)], 10).is_ok());
    for offset in [0, 10, 17] {
        let error = refused(&[0; 100], &[first, column(offset, 1000, 8, 8)], 10);
        assert_eq!(error, SamplesError::HoleOrder { column: 1, offset, free: 18 });
    }
    // A long body takes 32 bytes.
    let long = column(0, 1000, 65, 65);
    assert!(Samples::new(&[0; 40], vec![long, column(32, 1000, 8, 8)], 10).is_ok());
    assert_eq!(refused(&[0; 40], &[long, column(31, 1000, 8, 8)], 10), SamplesError::HoleOrder { column: 1, offset: 31, free: 32 });

    for (offset, bytes, end) in [(93, 8, 101), (69, 65, 101), (100, 1, 101), (u64::MAX, 8, u64::MAX), (101, 0, 101)] {
        let error = refused(&[0; 100], &[column(offset, 1000, 65, bytes)], 1);
        assert_eq!(error, SamplesError::HoleRange { column: 0, end, length: 100 });
    }
    assert!(Samples::new(&[0; 100], vec![column(92, 1000, 8, 8), column(100, 1000, 0, 0)], 1).is_ok());

    for place in [10, 17] {
        let mut record = [0; 100];
        record[place] = 1;
        assert_eq!(refused(&record, &[first], 10), SamplesError::HoleNotZero { column: 0, offset: 10 });
    }
    let mut around = [1; 100];
    around[10..18].fill(0);
    assert!(Samples::new(&around, vec![first], 10).is_ok());

    // From the first sample's first byte to the last one's last.
    for (length, stride, bytes, count, needed) in
        [(77, 10, 8, 8, 78), (7, 8, 8, 1, 8), (999, 1 << 62, 8, 2, (1 << 62) + 8), (1000, 1 << 62, 8, 9, u64::MAX), (0, 0, 1, 5, 1)]
    {
        let error = refused(&[0; 100], &[column(0, length, stride, bytes)], count);
        assert_eq!(error, SamplesError::ColumnLength { column: 0, needed, found: length });
    }
    assert!(Samples::new(&[0; 100], vec![column(0, 78, 10, 8)], 8).is_ok());
    assert!(Samples::new(&[0; 100], vec![column(0, 0, 10, 8)], 0).is_ok());
}

#[test]
fn ids_that_are_refused() {
    let dataset = Dataset::new(&[field(8, 0)], 10);
    let memory = gpu().allocate(100).unwrap();
    let stream = gpu().stream().unwrap();
    let state = |dataset: &Dataset, ids| gpu().samples_state(&source(), &dataset.samples(), ids, &stream);
    for length in [0, 79, 81, 88] {
        let error = state(&dataset, Ids::Column(memory.bytes(0, length))).unwrap_err();
        assert_eq!(error, SamplesError::IdsLength { expected: 80, found: length }.into());
        assert_eq!(error.code(), "gpu_samples");
    }
    for start in [1, 4] {
        let ids = memory.bytes(start, 80);
        assert_eq!(state(&dataset, Ids::Column(ids)), Err(SamplesError::IdsAlignment { address: ids.address() }.into()));
    }
    let first = u64::MAX - 8;
    assert_eq!(state(&dataset, Ids::Ordinals { first }), Err(SamplesError::Ordinals { first, count: 10 }.into()));
    assert!(state(&dataset, Ids::Ordinals { first: first - 1 }).is_ok());
    // Also where nothing is hashed.
    let none = Dataset::new(&[field(8, 0)], 0);
    assert_eq!(state(&none, Ids::Column(memory.bytes(0, 8))), Err(SamplesError::IdsLength { expected: 0, found: 8 }.into()));
    assert_eq!(state(&none, Ids::Ordinals { first: u64::MAX }), Ok(State::new()));
}

/// The samples that a child is asked about: usually ones that take every way, inline, hashed by the kernels of samples, and by the tree's.
fn asked_about(asked: &str) -> Result<Dataset, GpuError> {
    match asked.split_once(" of ") {
        None => Dataset::try_new(&[field(8, 0), field(100, 1), field(LONGEST_BODY + 1, 0)], 3),
        // So many that what one call leaves of them is not all written over by the next call's tables.
        Some((_, "short")) => Dataset::try_new(&[field(8, 0), field(100, 1)], 50),
        Some((_, "many")) => many(MANY),
        Some((_, other)) => panic!("{other}"),
    }
}

/// What the child does, and prints: the error's code and text, or what it found.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    let answer = |gpu: &'static Gpu| {
        let asked = env::var("ASKED").unwrap();
        let dataset = asked_about(&asked)?;
        let (samples, stream) = (dataset.samples(), gpu.stream()?);
        Ok::<_, GpuError>(match asked.starts_with("digests") {
            true => format!("{:?}", gpu.sample_digests(&samples, &stream)?),
            false => HEXLOWER.encode(&gpu.samples_state(&source(), &samples, Ids::Ordinals { first: 0 }, &stream)?.to_bytes()),
        })
    };
    for _ in 0..env::var("REPEAT").unwrap().parse().unwrap() {
        match Gpu::open(0).and_then(answer) {
            Ok(found) => println!("\nanswer: {found}"),
            Err(error) => println!("\nanswer: {}: {error}", error.code()),
        }
    }
}

/// Runs the child over the emulated driver with these settings.
fn run(asked: &str, settings: &str, repeat: usize) -> Vec<String> {
    let ended = emulated::child(settings).env("ASKED", asked).env("REPEAT", repeat.to_string()).output().unwrap();
    emulated::answers(&ended, repeat, &format!("{asked}, {settings}"))
}

fn right(asked: &str) -> String {
    let expected = asked_about(asked).unwrap().expected();
    if asked.starts_with("digests") { format!("{expected:?}") } else { HEXLOWER.encode(&state(0.., &expected).to_bytes()) }
}

/// The calls of the driver when nothing fails, in their order.
fn calls(asked: &str, repeat: usize) -> Vec<String> {
    emulated::calls(|settings| assert_eq!(run(asked, settings, repeat), vec![right(asked); repeat]))
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| *call == name).count()
}

const ASKED: [&str; 2] = ["digests", "state"];

/// Work that the driver takes and does not do.
#[test]
fn work_that_is_not_done_is_no_answer() {
    for asked in ASKED {
        let calls = calls(asked, 1);
        for name in ["cuLaunchKernel", "cuMemcpyDtoHAsync_v2"] {
            let count = count(&calls, name);
            assert!(count >= 4, "{asked}, {name}: {count}");
            // Some of the self tests', and all of what comes behind them.
            for number in (1..=count).filter(|number| number + 12 > count || number % 4 == 0) {
                let answer = run(asked, &format!("skip={name}:{number}"), 1).remove(0);
                let is_refused = answer.starts_with("gpu_digest_unwritten: ") || answer.starts_with("gpu_self_test: ");
                // What only the next launch reads is seen by nobody, and makes the answer a wrong one.
                assert!(is_refused || (name == "cuLaunchKernel" && answer != right(asked)), "{asked}, {name} {number}: {answer}");
                if number == count {
                    assert_eq!(answer, "gpu_digest_unwritten: GPU 0 reports success, and did not write result 0", "{asked}, {name}");
                }
            }
        }
    }
}

/// From the second time on, memory that was used before still holds what is right.
#[test]
fn what_an_earlier_call_left_is_not_taken_for_an_answer() {
    const REPEAT: usize = 4;
    for asked in ["digests of short", "state of short"] {
        let (once, all) = (count(&calls(asked, 1), "cuLaunchKernel"), count(&calls(asked, REPEAT), "cuLaunchKernel"));
        assert!(once < all);
        for number in once + 1..=all {
            let answers = run(asked, &format!("skip=cuLaunchKernel:{number}"), REPEAT);
            let wrong = answers.iter().filter(|answer| **answer != right(asked)).count();
            assert_eq!(wrong, 1, "{asked}: launch {number} did nothing, and the answers are {answers:?}");
        }
    }
}

#[test]
fn every_call_of_the_driver_may_fail() {
    for asked in ASKED {
        let calls = calls(asked, 1);
        let mut names = calls.clone();
        names.sort();
        names.dedup();
        let mut failed = 0;
        for name in names {
            // Nobody waits for what these say.
            let may_be_ignored = ["Free", "Destroy", "PopCurrent", "PushCurrent"].iter().any(|part| name.contains(part));
            let count = count(&calls, &name);
            for number in (1..=count).filter(|number| *number == 1 || number + 4 > count || *number == count / 2) {
                let answer = run(asked, &format!("fail={name}:{number}:999"), 1).remove(0);
                if !(may_be_ignored && answer == right(asked)) {
                    assert!(answer.starts_with("gpu_"), "{asked}, {name} {number}: {answer}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 40, "{asked}: {failed}");
    }
}

/// Memory comes back: what fails the first time works the second time.
#[test]
fn after_an_error_the_next_call_works() {
    for asked in ASKED {
        let calls = calls(asked, 1);
        for name in ["cuMemAlloc_v2", "cuMemHostAlloc"] {
            for number in 1..=count(&calls, name) {
                let answers = run(asked, &format!("fail={name}:{number}:2"), 2);
                assert!(answers[0].starts_with("gpu_out_of_memory: "), "{asked}, {name} {number}: {}", answers[0]);
                assert_eq!(answers[1], right(asked), "{asked}, after {name} {number}");
            }
        }
    }
}

#[test]
fn a_fault_while_a_kernel_runs_is_that_call_s_error() {
    for asked in ASKED {
        let launches = count(&calls(asked, 1), "cuLaunchKernel");
        for number in [1, launches / 2, launches - 1, launches] {
            for answer in run(asked, &format!("async=cuLaunchKernel:{number}:700"), 2) {
                assert!(answer.starts_with("gpu_failed: GPU 0: ") && answer.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{asked}: {answer}");
            }
        }
    }
}

/// Besides the data, 16 MiB and a thousandth of it are enough; a quarter of that is not.
#[test]
fn what_is_made_on_the_way_takes_little_memory() {
    let data: u64 = many(MANY).unwrap().memory.iter().map(DeviceMemory::len).sum();
    let asked = "state of many";
    assert_eq!(run(asked, &format!("memory={}", data + data / 1000 + (16 << 20)), 1), [right(asked)]);
    let answer = run(asked, &format!("memory={}", data + (4 << 20)), 1).remove(0);
    assert!(answer.starts_with("gpu_out_of_memory: GPU 0 has no "), "{answer}");
}
