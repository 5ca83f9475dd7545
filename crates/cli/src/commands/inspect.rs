//! `sentry inspect`

use std::process::ExitCode;

use sentry::{Annotation, Bundle, Manifest, Material, Method, Resource, Statement, printable, printable_path};
use serde_json::json;

use crate::args::Inspect;
use crate::output::{Output, count, size};

pub fn run(arguments: &Inspect, output: &Output) -> anyhow::Result<ExitCode> {
    let bundle = sentry::read_bundle(&arguments.signature)?;
    let bundle = bundle.claims();
    let statement = Statement::parse(&bundle.payload).map_err(sentry::Error::from)?;
    if output.is_json() {
        let payload: serde_json::Value = serde_json::from_slice(&bundle.payload)?;
        output.document(&json!({"checked": false, "signer": signer_json(bundle), "statement": payload}))?;
    }
    output.print(format!("signature   {}", printable_path(&arguments.signature)))?;
    output.print(format!("claims      to be signed by {}", signer(bundle)))?;
    output.print(format!("subject     {}", printable(&statement.subject)))?;
    if let Some(version) = statement.version {
        output.print(format!("version     {version}"))?;
    }
    list(&statement.manifest, arguments.tensors, output)?;
    output.say("nothing was checked: that takes `sentry verify` and a key that you trust");
    Ok(ExitCode::SUCCESS)
}

/// The signer in words, as the bundle claims.
pub fn signer(bundle: &Bundle) -> String {
    match &bundle.material {
        Material::PublicKey(key) => match (&key.hint, &key.key_details) {
            (Some(hint), _) => format!("key {}", printable(hint)),
            (None, Some(details)) => format!("a {} key", printable(details)),
            (None, None) => "a key".to_owned(),
        },
        Material::CertificateChain(chain) => format!("a chain of {}", count(chain.len(), "certificate")),
        Material::Sigstore { log_entries, .. } => format!(
            "a Sigstore certificate with {}",
            if *log_entries == 1 { "one log entry".to_owned() } else { format!("{log_entries} log entries") }
        ),
    }
}

pub fn signer_json(bundle: &Bundle) -> serde_json::Value {
    match &bundle.material {
        Material::PublicKey(key) => json!({"method": "key", "hint": key.hint, "key_details": key.key_details}),
        Material::CertificateChain(chain) => json!({"method": "certificate", "certificates": chain.len()}),
        Material::Sigstore { log_entries, .. } => json!({"method": "sigstore", "log_entries": log_entries}),
    }
}

fn list(manifest: &Manifest, with_tensors: bool, output: &Output) -> anyhow::Result<()> {
    let serialization = manifest.serialization();
    let method = match serialization.method {
        Method::Files => "whole files".to_owned(),
        Method::Shards { size: bytes, .. } => format!("shards of {}", size(bytes)),
    };
    let known = manifest.resources().iter().filter_map(known_size).fold(0, u64::saturating_add);
    let known = if known > 0 { format!(", {} of known size", size(known)) } else { String::new() };
    output.print(format!("covers      {}, {}{known}", count(manifest.paths().len(), "file"), count(manifest.tensors(), "tensor")))?;
    output.print(format!("hashed      {method} with {}", serialization.hash))?;
    output.print(format!("root        {}", manifest.root()))?;
    for path in &serialization.ignore_paths {
        output.print(format!("leaves out  {}", printable(path)))?;
    }
    for resource in manifest.resources() {
        output.print(format!("{}  {}{}", resource.digest, printable(&resource.name()), extent(resource)))?;
        if let (true, Some(Annotation::Safetensors(annotation))) = (with_tensors, &resource.annotation) {
            for tensor in &annotation.tensors {
                let name = printable(&tensor.name);
                output.print(format!("  {}  {name} {} {:?}", tensor.digest, tensor.dtype.name(), tensor.shape))?;
            }
        }
    }
    Ok(())
}

/// Bytes of a resource as far as the signature tells: of its tensors, or of a shard.
fn known_size(resource: &Resource) -> Option<u64> {
    match (&resource.annotation, resource.shard) {
        (Some(Annotation::Safetensors(annotation)), _) => Some(annotation.data_size()),
        (_, Some(shard)) => Some(shard.end - shard.start),
        _ => None,
    }
}

/// What a signature says of a resource besides its digest.
fn extent(resource: &Resource) -> String {
    match (&resource.annotation, known_size(resource)) {
        (Some(Annotation::Safetensors(annotation)), Some(bytes)) => {
            format!("  ({}, {})", count(annotation.tensors.len(), "tensor"), size(bytes))
        }
        (Some(Annotation::Blake3(_)), _) => "  (BLAKE3 digest as well)".to_owned(),
        (_, Some(bytes)) => format!("  ({})", size(bytes)),
        _ => String::new(),
    }
}
