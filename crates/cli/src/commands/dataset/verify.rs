//! `sentry dataset verify`

use std::process::ExitCode;

use sentry::{DatasetVerifyOptions, VerifiedDataset, printable_path, uris};
use serde_json::json;

use super::{contributors, manifest_json, say_others, source_lines};
use crate::args::DatasetVerify;
use crate::commands::verify::{signature_json, signer_json, signers};
use crate::output::{Output, count, size};
use crate::progress::Progress;
use crate::trust::Trust;

pub fn run(arguments: &DatasetVerify, output: &Output) -> anyhow::Result<ExitCode> {
    let options = DatasetVerifyOptions { signatures: arguments.signature_paths(), source_column: arguments.source.clone() };
    let trust = Trust::read(&arguments.signed)?;
    let contributors = contributors(&arguments.contributors)?;
    let progress = Progress::new(output);
    let verified = sentry::verify_dataset(&arguments.signed.path, &*trust.verifier()?, &contributors, &options, &progress)?;
    drop(progress);
    if output.is_json() {
        output.document(&document(arguments, &options, &verified))?;
    }
    output.say(report(arguments, &verified));
    say_others(&verified.others, output);
    Ok(ExitCode::SUCCESS)
}

fn document(arguments: &DatasetVerify, options: &DatasetVerifyOptions, verified: &VerifiedDataset) -> serde_json::Value {
    let dataset = &verified.dataset;
    let decided = dataset.decided_by();
    json!({
        "status": "verified",
        "artifact": arguments.signed.path.display().to_string(),
        "signature": options.signatures[0].display().to_string(),
        "signer": signer_json(dataset.identity()),
        "signatures": options.signatures.iter().zip(dataset.signatures()).map(signature_json).collect::<Vec<_>>(),
        "rule": decided.map(|decided| &decided.rule),
        "artifact_name": decided.map(|decided| &decided.artifact),
        "statement": {"predicate_type": uris::DATASET_V1, "payload_sha256": dataset.payload_sha256().to_hex()},
        "dataset": manifest_json(&dataset.value().statement().manifest),
        "bytes": verified.bytes,
        "others": verified.others.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn report(arguments: &DatasetVerify, verified: &VerifiedDataset) -> String {
    let manifest = &verified.dataset.value().statement().manifest;
    let samples = count(manifest.whole().count() as usize, "sample");
    let mut text = format!("verified {} ({samples}, {})", printable_path(&arguments.signed.path), size(verified.bytes));
    text.push_str(&source_lines(manifest));
    text.push_str(&signers(&verified.dataset));
    if let Some(version) = manifest.version() {
        text.push_str(&format!("\n  version    {version}"));
    }
    text
}
