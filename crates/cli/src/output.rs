//! Everything that is printed. What a command is asked for goes to standard output; verdicts, remarks and errors
//! go to standard error; with `--json` one document goes to standard output.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use indicatif::DecimalBytes;
use sentry::{Difference, Error, Verdict, VerifyError, printable_path};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Command;
use crate::hint::hint;

/// Differences printed for people; `--json` has them all.
const MOST_DIFFERENCES: usize = 20;

pub struct Output {
    quiet: bool,
    json: bool,
}

impl Output {
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json }
    }

    /// Whether to draw a progress bar, if there is a terminal.
    pub fn shows_progress(&self) -> bool {
        !self.quiet
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A verdict or remark for people.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// The thing that a command was asked for, for people. Absent with `--json`.
    pub fn print(&self, text: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { write_out(&format!("{text}\n")) }
    }

    /// The document of `--json`. Absent without it.
    pub fn document(&self, document: &impl Serialize) -> anyhow::Result<()> {
        if self.json { write_out(&format!("{}\n", serde_json::to_string_pretty(document)?)) } else { Ok(()) }
    }

    /// Reports an error and gives the exit code that it stands for.
    pub fn failure(&self, error: &anyhow::Error, command: &Command) -> ExitCode {
        let subject = command.subject();
        let known = error.downcast_ref::<Error>();
        let rejected = command.gives_verdict() && known.is_some_and(|known| known.verdict() == Verdict::Rejected);
        let (status, code) = if rejected { ("rejected", 1) } else { ("not checked", 2) };
        let hint = known.and_then(|known| hint(command, known));
        // Our own errors carry their cause in the message; others have it in the chain.
        let message = match (known, &subject.signature) {
            (Some(Error::Verify(VerifyError::OfSignature { number, source })), _) => match command.signature(*number) {
                Some(path) => format!("\"{}\": {source}", printable_path(&path)),
                None => format!("signature {number}: {source}"),
            },
            (
                Some(
                    known @ Error::Verify(
                        VerifyError::Bundle(_) | VerifyError::Signature(_) | VerifyError::Certificate(_) | VerifyError::Timestamp(_),
                    ),
                ),
                Some(path),
            ) => {
                format!("\"{}\": {known}", printable_path(path))
            }
            (Some(known), _) => known.to_string(),
            (None, _) => format!("{error:#}"),
        };
        if self.json {
            let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let document = json!({
                "status": status,
                "artifact": path(&subject.artifact),
                "signature": path(&subject.signature),
                "error": {
                    "code": known.map_or("usage", Error::code),
                    "message": message,
                    "hint": hint,
                    "differences": known.map_or(&[][..], Error::differences).iter().map(difference_json).collect::<Vec<_>>(),
                },
            });
            let _ = write_out(&format!("{document:#}\n"));
        }
        let mut text = format!("{}: ", subject.verdict_word(status));
        match known.map_or(&[][..], Error::differences) {
            [] | [_] => text.push_str(&message),
            differences => text.push_str(&difference_list(differences)),
        }
        if let Some(hint) = hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        let _ = writeln!(io::stderr(), "{text}");
        ExitCode::from(code)
    }
}

/// A reader that stops early, such as `head`, is no error.
fn write_out(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

pub fn difference_json(difference: &Difference) -> Value {
    json!({
        "kind": difference.kind.name(),
        "file": difference.file,
        "shard": difference.shard.map(|shard| [shard.start, shard.end]),
        "tensor": difference.tensor,
        "source": difference.source,
        "sample": difference.sample,
        "field": difference.field,
        "expected": difference.expected,
        "found": difference.found,
    })
}

/// All differences, a line each, up to a number that a person can read.
fn difference_list(differences: &[Difference]) -> String {
    let what = if differences[0].source.is_some() || differences[0].field.is_some() { "dataset" } else { "model" };
    let mut text = format!("{} differences from the signed {what}", differences.len());
    for difference in differences.iter().take(MOST_DIFFERENCES) {
        text.push_str(&format!("\n  {difference}"));
    }
    if differences.len() > MOST_DIFFERENCES {
        text.push_str(&format!("\n  and {} more (all of them with --json)", differences.len() - MOST_DIFFERENCES));
    }
    text
}

/// `1 file`, `2 files`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A size in decimal units.
pub fn size(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}
