//! `sentry dataset`

mod diff;
mod inspect;
mod sign;
mod update;
mod verify;

use std::process::ExitCode;

use sentry::{DatasetManifest, IdRule, SignedDataset, TrustedKey, Verified, printable, printable_path, read_contributor, read_public_key};
use serde_json::{Value, json};

use crate::args::{Contributors, DatasetCommand};
use crate::output::{Output, count, size};

pub fn run(command: &DatasetCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        DatasetCommand::Sign(arguments) => sign::run(arguments, output),
        DatasetCommand::Verify(arguments) => verify::run(arguments, output),
        DatasetCommand::Update(arguments) => update::run(arguments, output),
        DatasetCommand::Diff(arguments) => diff::run(arguments, output),
        DatasetCommand::Inspect(arguments) => inspect::run(arguments, output),
    }
}

/// The statements of contributors, each under the key that was given for it: the first key is for the first signature.
fn contributors(arguments: &Contributors) -> anyhow::Result<Vec<Verified<sentry::DatasetStatement>>> {
    let (signatures, keys) = (&arguments.contributor, &arguments.contributor_key);
    if signatures.len() != keys.len() {
        let reason = "give each --contributor its --contributor-key, in the same order";
        return Err(sentry::Error::Options { reason }.into());
    }
    let read = |(signature, key): (&std::path::PathBuf, &std::path::PathBuf)| {
        read_contributor(signature, &TrustedKey::new(&read_public_key(key)?))
    };
    Ok(signatures.iter().zip(keys).map(read).collect::<Result<_, _>>()?)
}

/// What a statement says, for `--json`.
fn manifest_json(manifest: &DatasetManifest) -> Value {
    let source = |source: &sentry::Source| {
        json!({
            "name": source.name,
            "samples": source.state.count(),
            "table": source.table.as_ref().map(|table| table.path.as_str()),
            "statement": source.statement.map(|digest| digest.to_hex()),
        })
    };
    json!({
        "name": manifest.name(),
        "version": manifest.version(),
        "digest": manifest.digest().to_hex(),
        "samples": manifest.whole().count(),
        "ids": ids(manifest.ids()),
        "fields": manifest.fields().iter().map(|field| json!({"name": field.name, "type": field.arrow_type})).collect::<Vec<_>>(),
        "sources": manifest.sources().iter().map(source).collect::<Vec<_>>(),
    })
}

/// Where ids come from, as in a statement.
fn ids(rule: &IdRule) -> String {
    match rule {
        IdRule::Column(name) => format!("column {name}"),
        IdRule::Path => "path".to_owned(),
        IdRule::Ordinal => "ordinal".to_owned(),
    }
}

/// The sources, a line each.
fn source_lines(manifest: &DatasetManifest) -> String {
    let mut text = String::new();
    for source in manifest.sources() {
        let table = if source.table.is_some() { "" } else { ", without a table" };
        let contributed = if source.statement.is_some() { ", contributed" } else { "" };
        let samples = count(source.state.count() as usize, "sample");
        text.push_str(&format!("\n  source     {} ({samples}{table}{contributed})", printable(&source.name)));
    }
    text
}

/// Reports what was signed.
fn say_signed(signed: &SignedDataset, fingerprint: &str, dataset: &std::path::Path, output: &Output) -> anyhow::Result<()> {
    let manifest = &signed.statement.manifest;
    output.document(&json!({
        "status": "signed",
        "artifact": dataset.display().to_string(),
        "signature": signed.signature.display().to_string(),
        "fingerprint": fingerprint,
        "dataset": manifest_json(manifest),
        "bytes": signed.bytes,
        "others": signed.others.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))?;
    let samples = count(manifest.whole().count() as usize, "sample");
    let (sources, signature) = (source_lines(manifest), printable_path(&signed.signature));
    let read = size(signed.bytes);
    output.say(format!(
        "signed {} ({samples}, {read} read){sources}\n  ids        {}\n  signature  {signature}\n  key        {fingerprint}",
        printable_path(dataset),
        printable(&ids(manifest.ids())),
    ));
    if matches!(manifest.ids(), IdRule::Ordinal) {
        output.say("note: ids are the numbers of rows, so that the order of rows is signed too");
    }
    say_others(&signed.others, output);
    Ok(())
}

fn say_others(others: &[sentry::ModelPath], output: &Output) {
    for path in others {
        output.say(format!("note: {path} holds no samples: the signature says nothing of it"));
    }
}
