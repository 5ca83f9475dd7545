//! A progress bar on a terminal, nothing elsewhere.

use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressStyle};
use sentry::Observer;

use crate::output::Output;

/// Files smaller than this in all are hashed before anyone could read a bar, in bytes.
const WORTH_A_BAR: u64 = 100_000_000;

pub struct Progress {
    shown: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    pub fn new(output: &Output) -> Self {
        Self { shown: output.shows_progress(), bar: OnceLock::new() }
    }
}

impl Observer for Progress {
    fn begin(&self, bytes: u64, _: usize) {
        if !self.shown || bytes < WORTH_A_BAR {
            return;
        }
        let style =
            ProgressStyle::with_template("{bar:30} {decimal_bytes:>9} of {decimal_total_bytes} at {decimal_bytes_per_sec}, {eta} left");
        let bar = ProgressBar::new(bytes).with_style(style.expect("a constant template"));
        // A second run in one process would be a second bar; there is none.
        let _ = self.bar.set(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
