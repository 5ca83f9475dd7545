//! Which samples of a dataset were delivered, by all workers and ranks: the verdict on an epoch.

use std::collections::{BTreeSet, HashSet};

use sentry_hash::lattice::{Entry, Partial, STATE_LEN, State};
use sentry_hash::{Digest, HashError};
use sentry_manifest::printable;

use crate::{Checked, Difference, DifferenceKind, SampleChecker, Verified, VerifyError};

/// What a stored part of an epoch begins with.
const MAGIC: &[u8; 16] = b"sentry-ml epoch1";

/// The samples that were delivered so far, and those that were kept back since they are not the signed ones. Of sources with a table it is
/// known which, and repeats are counted. Samples of other sources are added up, and one that comes twice is an error.
#[derive(Debug, Clone)]
pub struct Epoch {
    payload: Digest,
    sources: Vec<Delivered>,
}

#[derive(Debug, Clone)]
enum Delivered {
    /// A bit for each entry of the table, how often one came that had come before, and the places of samples that were kept back.
    Listed { bits: Vec<u64>, samples: u64, repeated: u64, quarantined: BTreeSet<u64> },
    /// The sum, and the ids in it.
    Provisional(Partial),
}

/// An epoch in which every signed sample was delivered, and no other; but for those that the caller asked to be kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishedEpoch {
    samples: u64,
    quarantined: u64,
    repeated: u64,
}

impl FinishedEpoch {
    /// How many samples were signed, of the sources that it is about.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How many of them were never delivered, since what was there in their place was another sample.
    pub fn quarantined(&self) -> u64 {
        self.quarantined
    }

    /// How often a sample was delivered that had been before: what a sampler repeats, or rows that are stored more than once.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

impl Epoch {
    /// An epoch of which nothing was delivered.
    pub fn new(checker: &SampleChecker) -> Self {
        let delivered = |(place, source): (usize, &sentry_manifest::Source)| {
            if checker.has_table(place) {
                let samples = source.state.count();
                Delivered::Listed { bits: vec![0; samples.div_ceil(64) as usize], samples, repeated: 0, quarantined: BTreeSet::new() }
            } else {
                Delivered::Provisional(Partial::new(*checker.tag(place)))
            }
        };
        let sources = checker.sources().iter().enumerate().map(delivered).collect();
        Self { payload: checker.statement().payload_sha256(), sources }
    }

    /// Takes down that samples of a source were delivered, with what checking them had shown.
    ///
    /// # Errors
    /// [`VerifyError::RepeatedSample`] for one without a table that came before; [`VerifyError::EpochState`] for what was not checked, or
    /// not with this dataset. Nothing was taken down then.
    pub fn deliver(&mut self, checker: &SampleChecker, source: usize, samples: &[Entry], checked: &[Checked]) -> Result<(), VerifyError> {
        let wrong = |reason| VerifyError::EpochState { reason };
        if samples.len() != checked.len() {
            return Err(wrong("not every sample was checked"));
        }
        let name = || printable(&checker.sources()[source].name);
        let delivered = self.sources.get_mut(source).ok_or_else(|| wrong("there is no such source"))?;
        // All of them are looked at before the first one counts.
        let mut new = HashSet::new();
        for (sample, checked) in samples.iter().zip(checked) {
            match (&*delivered, checked) {
                (Delivered::Listed { samples, .. }, Checked::Signed(place)) if place < samples => {}
                (Delivered::Provisional(partial), Checked::Provisional) => {
                    if partial.ids().contains(&sample.id) || !new.insert(sample.id) {
                        return Err(VerifyError::RepeatedSample { source_name: name(), id: sample.id });
                    }
                }
                _ => return Err(wrong("a sample was not found to be signed")),
            }
        }
        for (sample, checked) in samples.iter().zip(checked) {
            match (&mut *delivered, checked) {
                (Delivered::Listed { bits, repeated, .. }, Checked::Signed(place)) => {
                    let (word, bit) = (&mut bits[(place / 64) as usize], 1 << (place % 64));
                    *repeated += u64::from(*word & bit != 0);
                    *word |= bit;
                }
                (Delivered::Provisional(partial), _) => {
                    partial.insert(sample).map_err(|_| wrong("it has more samples than any dataset"))?;
                }
                _ => return Err(wrong("a sample was not found to be signed")),
            }
        }
        Ok(())
    }

    /// Takes down that a sample was kept back, with what checking it had shown: the epoch can be complete without it, and says so. One
    /// that was not signed at all leaves nothing behind.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`] for a sample that nothing is wrong with.
    pub fn quarantine(&mut self, source: usize, checked: &Checked) -> Result<(), VerifyError> {
        match (self.sources.get_mut(source), checked) {
            (Some(Delivered::Listed { quarantined, samples, .. }), Checked::Changed { place, .. }) if place < samples => {
                quarantined.insert(*place);
                Ok(())
            }
            (Some(Delivered::Listed { .. }), Checked::Unsigned) => Ok(()),
            _ => Err(VerifyError::EpochState { reason: "nothing is wrong with the sample that was kept back" }),
        }
    }

    /// Adds what another worker or rank delivered in the same epoch.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`] if it is of another dataset; [`VerifyError::RepeatedSample`] if both delivered one that has no table.
    /// This part is spoilt then.
    pub fn merge(&mut self, checker: &SampleChecker, other: &Self) -> Result<(), VerifyError> {
        let wrong = |reason| VerifyError::EpochState { reason };
        if self.payload != other.payload || self.sources.len() != other.sources.len() {
            return Err(wrong("it is of another dataset"));
        }
        for (place, (ours, theirs)) in self.sources.iter_mut().zip(&other.sources).enumerate() {
            match (ours, theirs) {
                (
                    Delivered::Listed { bits, repeated, quarantined, .. },
                    Delivered::Listed { bits: theirs, repeated: again, quarantined: kept, .. },
                ) if bits.len() == theirs.len() => {
                    let in_both: u64 = bits.iter().zip(theirs).map(|(ours, theirs)| u64::from((ours & theirs).count_ones())).sum();
                    *repeated = repeated.saturating_add(*again).saturating_add(in_both);
                    bits.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours |= theirs);
                    quarantined.extend(kept);
                }
                (Delivered::Provisional(ours), Delivered::Provisional(theirs)) => match ours.merge(theirs) {
                    Ok(()) => {}
                    Err(HashError::RepeatedId { id }) => {
                        return Err(VerifyError::RepeatedSample { source_name: printable(&checker.sources()[place].name), id });
                    }
                    Err(_) => return Err(wrong("its sums cannot be added")),
                },
                _ => return Err(wrong("it is of another dataset")),
            }
        }
        Ok(())
    }

    /// How many samples of each source were delivered, by the sources' order.
    pub fn delivered(&self) -> Vec<u64> {
        self.sources.iter().map(Delivered::count).collect()
    }

    /// How many samples were kept back and never delivered, by the sources' order.
    pub fn quarantined(&self) -> Vec<u64> {
        self.sources.iter().map(Delivered::kept_back).collect()
    }

    /// The verdict: every signed sample was delivered, and no other. Tables have to add up to the signed states, or a signer could bless
    /// two contents: one for those who look samples up, and one for those who add them up.
    ///
    /// # Errors
    /// [`VerifyError::EpochIncomplete`]; [`VerifyError::DatasetDiffers`] if the samples of a source without a table are not the signed ones;
    /// those of [`SampleChecker::check_tables`]; [`VerifyError::EpochState`] if this is of another dataset.
    pub fn finish(&self, checker: &SampleChecker) -> Result<Verified<FinishedEpoch>, VerifyError> {
        let all: Vec<&str> = checker.sources().iter().map(|source| source.name.as_str()).collect();
        self.finish_of(checker, &all)
    }

    /// The verdict on some sources: every sample of theirs was delivered, and no other of theirs. It says nothing of the rest.
    ///
    /// # Errors
    /// As for [`Epoch::finish`]; [`VerifyError::DatasetDiffers`] for a source that was not signed.
    pub fn finish_of(&self, checker: &SampleChecker, sources: &[&str]) -> Result<Verified<FinishedEpoch>, VerifyError> {
        let wrong = |reason| VerifyError::EpochState { reason };
        if self.payload != checker.statement().payload_sha256() || self.sources.len() != checker.sources().len() {
            return Err(wrong("it is of another dataset"));
        }
        let places: BTreeSet<usize> = sources.iter().map(|name| checker.source(name)).collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(wrong("it is about no source"));
        }
        let mut different = Vec::new();
        let mut finished = FinishedEpoch { samples: 0, quarantined: 0, repeated: 0 };
        for &place in &places {
            let (source, delivered) = (&checker.sources()[place], &self.sources[place]);
            let (count, kept_back, samples) = (delivered.count(), delivered.kept_back(), source.state.count());
            if count + kept_back < samples {
                return Err(VerifyError::EpochIncomplete { source_name: printable(&source.name), delivered: count, samples });
            }
            finished.samples += samples;
            finished.quarantined += kept_back;
            finished.repeated = finished.repeated.saturating_add(delivered.repeated());
            if let Delivered::Provisional(partial) = delivered
                && *partial.state() != source.state
            {
                different.push(Difference::of_source(DifferenceKind::ChangedSource, &source.name));
            }
        }
        if !different.is_empty() {
            return Err(VerifyError::DatasetDiffers(different));
        }
        places.into_iter().try_for_each(|place| checker.check_table(place))?;
        Ok(checker.statement().also(finished))
    }

    /// This part as bytes, to go on later or elsewhere. They are not signed: whoever can write to them can say that samples were delivered.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(self.payload.as_bytes());
        for source in &self.sources {
            match source {
                Delivered::Listed { bits, repeated, quarantined, .. } => {
                    let counts = [*repeated, quarantined.len() as u64];
                    bits.iter().chain(&counts).chain(quarantined).for_each(|word| bytes.extend(word.to_le_bytes()));
                }
                Delivered::Provisional(partial) => {
                    bytes.extend(partial.state().count().to_le_bytes());
                    bytes.extend(partial.state().to_bytes());
                    let mut ids: Vec<u64> = partial.ids().iter().copied().collect();
                    ids.sort_unstable();
                    ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
                }
            }
        }
        bytes
    }

    /// Reads what [`Epoch::to_bytes`] has written, of the same dataset.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`].
    pub fn from_bytes(checker: &SampleChecker, bytes: &[u8]) -> Result<Self, VerifyError> {
        let wrong = |reason| VerifyError::EpochState { reason };
        let mut epoch = Self::new(checker);
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it is none"))?;
        let rest = rest.strip_prefix(epoch.payload.as_bytes()).ok_or_else(|| wrong("it is of another dataset"))?;
        let mut rest = Words(rest);
        for (place, source) in epoch.sources.iter_mut().enumerate() {
            match source {
                Delivered::Listed { bits, samples, repeated, quarantined } => {
                    for word in bits.iter_mut() {
                        *word = rest.next()?;
                    }
                    *repeated = rest.next()?;
                    let kept_back = rest.next()?;
                    for _ in 0..kept_back {
                        quarantined.insert(rest.next()?);
                    }
                    let beyond = bits.last().filter(|_| *samples % 64 != 0).is_some_and(|last| last >> (*samples % 64) != 0);
                    if beyond || quarantined.last().is_some_and(|last| last >= samples) {
                        return Err(wrong("it has more samples than were signed"));
                    }
                }
                Delivered::Provisional(partial) => {
                    let count = rest.next()?;
                    let state = State::from_bytes(count, rest.take(STATE_LEN)?).map_err(|_| wrong("its sum is out of bounds"))?;
                    // As many as the bytes that are there can hold.
                    let length =
                        usize::try_from(count).ok().and_then(|count| count.checked_mul(8)).ok_or_else(|| wrong("it is cut off"))?;
                    let ids = rest.take(length)?.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id));
                    *partial = Partial::from_parts(*checker.tag(place), state, ids).map_err(|_| wrong("its ids do not fit its sum"))?;
                }
            }
        }
        if rest.0.is_empty() { Ok(epoch) } else { Err(wrong("something stands behind its end")) }
    }
}

impl Delivered {
    fn count(&self) -> u64 {
        match self {
            Self::Listed { bits, .. } => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
            Self::Provisional(partial) => partial.state().count(),
        }
    }

    fn repeated(&self) -> u64 {
        match self {
            Self::Listed { repeated, .. } => *repeated,
            Self::Provisional(_) => 0,
        }
    }

    fn kept_back(&self) -> u64 {
        match self {
            Self::Listed { bits, quarantined, .. } => {
                let was_delivered = |place: &&u64| bits[(**place / 64) as usize] >> (**place % 64) & 1 == 1;
                quarantined.iter().filter(|place| !was_delivered(place)).count() as u64
            }
            Self::Provisional(_) => 0,
        }
    }
}

/// The bytes that have not been read.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<u64, VerifyError> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("as many bytes as asked for")))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], VerifyError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(VerifyError::EpochState { reason: "it is cut off" })?;
        self.0 = rest;
        Ok(taken)
    }
}
