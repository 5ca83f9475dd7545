//! `sentry sign`

use std::process::ExitCode;

use sentry::{SignOptions, printable_path};
use serde_json::json;

use crate::args::Sign;
use crate::input::{inside_model, with_signer};
use crate::output::{Output, count, size};
use crate::progress::Progress;

pub fn run(arguments: &Sign, output: &Output) -> anyhow::Result<ExitCode> {
    let options = SignOptions {
        signature: Some(arguments.signature_path()),
        hash: arguments.hash.into(),
        shard_size: arguments.shard_size,
        ignore: inside_model(&arguments.model, &arguments.ignore)?,
        allow_symlinks: arguments.allow_symlinks,
        version: arguments.artifact_version,
        annotate: !arguments.no_annotations,
        timestamp: arguments.signer.timestamp.clone(),
    };
    let progress = Progress::new(output);
    let (signed, fingerprint) =
        with_signer(&arguments.signer, |signer, _| Ok(sentry::sign_model(&arguments.model, signer, &options, &progress)?))?;
    drop(progress);

    let manifest = &signed.statement.manifest;
    let (files, tensors) = (manifest.paths().len(), manifest.tensors());
    output.document(&json!({
        "status": "signed",
        "artifact": arguments.model.display().to_string(),
        "signature": signed.signature.display().to_string(),
        "fingerprint": fingerprint,
        "root": manifest.root().to_hex(),
        "files": files,
        "bytes": signed.bytes,
        "tensors": tensors,
        "notes": signed.notes,
    }))?;
    let tensors = if tensors > 0 { format!(", {}", count(tensors, "tensor")) } else { String::new() };
    output.say(format!(
        "signed {} ({}, {}{tensors})\n  signature  {}\n  key        {}",
        printable_path(&arguments.model),
        count(files, "file"),
        size(signed.bytes),
        printable_path(&signed.signature),
        fingerprint,
    ));
    for note in &signed.notes {
        output.say(format!("note: {note}"));
    }
    Ok(ExitCode::SUCCESS)
}
