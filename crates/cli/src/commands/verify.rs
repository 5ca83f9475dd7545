//! `sentry verify`

use std::path::PathBuf;
use std::process::ExitCode;

use sentry::{
    DecidedBy, GIT_PATHS, Identity, Manifest, Method, Model, Verified, VerifiedSignature, VerifyOptions, printable, printable_path, uris,
};
use serde_json::{Value, json};

use crate::args::Verify;
use crate::input::inside_model;
use crate::output::{Output, count, size};
use crate::progress::Progress;
use crate::trust::Trust;

pub fn run(arguments: &Verify, output: &Output) -> anyhow::Result<ExitCode> {
    let options = VerifyOptions {
        signatures: arguments.signed.signature_paths(),
        ignore: inside_model(&arguments.signed.path, &arguments.ignore)?,
        allow_unsigned: arguments.ignore_unsigned_files,
    };
    let trust = Trust::read(&arguments.signed)?;
    let verifier = trust.verifier()?;
    let progress = Progress::new(output);
    let verified = sentry::verify_model(&arguments.signed.path, &*verifier, &options, &progress)?;
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
    let signatures: Vec<_> = options.signatures.iter().zip(verified.signatures()).map(signature_json).collect();
    let annotated = manifest.resources().iter().filter(|resource| resource.annotation.is_some()).count();
    json!({
        "status": "verified",
        "artifact": arguments.signed.path.display().to_string(),
        "signature": options.signatures[0].display().to_string(),
        "signer": signer_json(verified.identity()),
        "signatures": signatures,
        "rule": verified.decided_by().map(|decided| &decided.rule),
        "artifact_name": verified.decided_by().map(|decided| &decided.artifact),
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

pub fn signature_json((path, signature): (&PathBuf, &VerifiedSignature)) -> Value {
    json!({
        "signature": path.display().to_string(),
        "signer": signer_json(signature.identity()),
        "payload_sha256": signature.payload_sha256().to_hex(),
        "timestamp": signature.timestamp().map(|time| time.to_string()),
    })
}

pub fn signer_json(identity: &Identity) -> Value {
    let mut document = json!({
        "method": identity.method(),
        "algorithm": identity.algorithm().name(),
        "fingerprint": identity.fingerprint(),
    });
    if let Identity::Certificate { trusted, names, subject, issuer, .. } = identity {
        document["identity"] = json!(trusted.as_ref().map(ToString::to_string));
        document["names"] = json!(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        document["subject"] = json!(subject);
        document["issuer"] = json!(issuer);
    }
    document
}

fn report(arguments: &Verify, options: &VerifyOptions, verified: &Verified<Model>) -> String {
    let model = verified.value();
    let manifest = &model.statement().manifest;
    let tensors = match manifest.tensors() {
        0 => String::new(),
        tensors => format!(", {}", count(tensors, "tensor")),
    };
    let mut text = format!(
        "verified {} ({}, {}{tensors})",
        printable_path(&arguments.signed.path),
        count(manifest.paths().len(), "file"),
        size(model.bytes()),
    );
    text.push_str(&signers(verified));
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

/// Who signed, and what allowed it, a line each.
pub fn signers<T>(verified: &Verified<T>) -> String {
    let mut text = String::new();
    for signature in verified.signatures() {
        text.push_str(&format!("\n  signed by  {}", signature.identity()));
        if let Some(time) = signature.timestamp() {
            text.push_str(&format!("\n  timestamp  {time}"));
        }
    }
    if let Some(DecidedBy { rule, artifact }) = verified.decided_by() {
        text.push_str(&format!("\n  allowed by rule \"{}\" of the policy, for \"{}\"", printable(rule), printable(artifact)));
    }
    text
}

/// What was left out besides Git's own files and the signature.
fn left_out<'a>(arguments: &Verify, options: &'a VerifyOptions, manifest: &'a Manifest) -> Vec<&'a String> {
    let is_signature = |path: &str| options.signatures.iter().any(|signature| arguments.signed.path.join(path) == *signature);
    let is_usual = |path: &str| GIT_PATHS.contains(&path) || path == "model.sig" || is_signature(path);
    let recorded = manifest.serialization().ignore_paths.iter().filter(|path| !is_usual(path));
    recorded.chain(&options.ignore).collect()
}
