//! `sentry verify`

use std::process::ExitCode;

use sentry::{GIT_PATHS, Identity, Manifest, Method, Model, TrustedKey, Verified, VerifyOptions, printable, printable_path, uris};
use serde_json::json;

use crate::args::Verify;
use crate::input::{inside_model, public_key};
use crate::output::{Output, count, size};
use crate::progress::Progress;

pub fn run(arguments: &Verify, output: &Output) -> anyhow::Result<ExitCode> {
    let options = VerifyOptions {
        signature: Some(arguments.signature_path()),
        ignore: inside_model(&arguments.model, &arguments.ignore)?,
        allow_unsigned: arguments.ignore_unsigned_files,
    };
    let key = public_key(&arguments.key)?;
    let progress = Progress::new(output);
    let verified = sentry::verify_model(&arguments.model, &TrustedKey::new(&key), &options, &progress)?;
    drop(progress);
    if output.is_json() {
        output.document(&document(arguments, &options, &verified))?;
    }
    output.say(report(arguments, &options, &verified));
    Ok(ExitCode::SUCCESS)
}

fn document(arguments: &Verify, options: &VerifyOptions, verified: &Verified<Model>) -> serde_json::Value {
    let model = verified.value();
    let statement = model.statement();
    let manifest = &statement.manifest;
    let serialization = manifest.serialization();
    let ignored: Vec<&String> = serialization.ignore_paths.iter().chain(&options.ignore).collect();
    let annotated = manifest.resources().iter().filter(|resource| resource.annotation.is_some()).count();
    json!({
        "status": "verified",
        "artifact": arguments.model.display().to_string(),
        "signature": arguments.signature_path().display().to_string(),
        "signer": match verified.identity() {
            Identity::Key { algorithm, fingerprint, .. } => {
                json!({"method": "key", "algorithm": algorithm.name(), "fingerprint": fingerprint})
            }
            other => json!({"method": other.to_string()}),
        },
        "statement": {
            "predicate_type": uris::MODEL_SIGNING_V1,
            "subject": statement.subject,
            "root": manifest.root().to_hex(),
            "payload_sha256": verified.payload_sha256().to_hex(),
            "version": statement.version,
        },
        "hash": serialization.hash.name(),
        "serialization": if matches!(serialization.method, Method::Files) { "files" } else { "shards" },
        "files": manifest.paths().len(),
        "bytes": model.bytes(),
        "tensors": manifest.tensors(),
        "annotated_files": annotated,
        "ignored": ignored,
        "unsigned": model.unsigned(),
    })
}

fn report(arguments: &Verify, options: &VerifyOptions, verified: &Verified<Model>) -> String {
    let model = verified.value();
    let manifest = &model.statement().manifest;
    let tensors = match manifest.tensors() {
        0 => String::new(),
        tensors => format!(", {}", count(tensors, "tensor")),
    };
    let mut text = format!(
        "verified {} ({}, {}{tensors})\n  signed by  {}",
        printable_path(&arguments.model),
        count(manifest.paths().len(), "file"),
        size(model.bytes()),
        verified.identity(),
    );
    if let Some(version) = model.statement().version {
        text.push_str(&format!("\n  version    {version}"));
    }
    for path in left_out(arguments, options, manifest) {
        text.push_str(&format!("\n  left out, not checked: {}", printable(path)));
    }
    for name in model.unsigned() {
        text.push_str(&format!("\n  not signed, not checked: {}", printable(name)));
    }
    text
}

/// What was left out besides Git's own files and the signature.
fn left_out<'a>(arguments: &Verify, options: &'a VerifyOptions, manifest: &'a Manifest) -> Vec<&'a String> {
    let signature = arguments.signature_path();
    let is_usual = |path: &str| GIT_PATHS.contains(&path) || path == "model.sig" || arguments.model.join(path) == signature;
    let recorded = manifest.serialization().ignore_paths.iter().filter(|path| !is_usual(path));
    recorded.chain(&options.ignore).collect()
}
