//! `sentry dataset diff`

use std::process::ExitCode;

use serde_json::json;

use crate::args::DatasetDiff;
use crate::output::{Output, count, difference_json};
use crate::progress::Progress;

pub fn run(arguments: &DatasetDiff, output: &Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(output);
    let differences = sentry::diff_dataset(&arguments.dataset, arguments.signature.as_deref(), arguments.source.as_deref(), &progress)?;
    drop(progress);
    output.document(&json!({
        "same": differences.is_empty(),
        "differences": differences.iter().map(difference_json).collect::<Vec<_>>(),
    }))?;
    for difference in &differences {
        output.print(difference)?;
    }
    output.say(format!("{}; who signed was not checked", count(differences.len(), "difference")));
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
