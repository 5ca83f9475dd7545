//! `sentry diff`

use std::process::ExitCode;

use sentry::{DifferenceKind, printable};
use serde_json::json;

use crate::args::Diff;
use crate::output::{Output, count, difference_json};
use crate::progress::Progress;

pub fn run(arguments: &Diff, output: &Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(output);
    let comparison = sentry::diff(&arguments.signature, &arguments.model, &progress)?;
    drop(progress);
    let differences = &comparison.differences;
    output.document(&json!({
        "same": differences.is_empty(),
        "compared": comparison.compared,
        "differences": differences.iter().map(difference_json).collect::<Vec<_>>(),
    }))?;
    for difference in differences {
        let mark = match difference.kind {
            DifferenceKind::UnsignedFile | DifferenceKind::UnsignedTensor => "added",
            DifferenceKind::MissingFile | DifferenceKind::MissingTensor => "removed",
            _ => "changed",
        };
        let inside = difference.tensor.as_ref().map(|tensor| format!("#{}", printable(tensor))).unwrap_or_default();
        let header = if difference.kind == DifferenceKind::ChangedHeader { " (header)" } else { "" };
        output.print(format!("{mark:8} {}{inside}{header}", printable(difference.file.as_deref().unwrap_or_default())))?;
    }
    output.say(format!(
        "{} compared, {}; who signed was not checked",
        count(comparison.compared, "signed digest"),
        count(differences.len(), "difference")
    ));
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
