//! `sentry hash`

use std::process::ExitCode;

use sentry::{Annotation, Resource};
use serde_json::json;

use crate::args::Hash;
use crate::output::Output;
use crate::progress::Progress;

pub fn run(arguments: &Hash, output: &Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(output);
    let manifest = sentry::hash_model(&arguments.model, arguments.hash.into(), arguments.tensors, arguments.device, &progress)?;
    drop(progress);
    if output.is_json() {
        let files: Vec<_> = manifest.resources().iter().map(file_json).collect();
        output.document(&json!({"hash": manifest.serialization().hash.name(), "root": manifest.root().to_hex(), "files": files}))?;
    }
    for resource in manifest.resources() {
        output.print(format!("{}  {}", resource.digest, resource.path))?;
        for tensor in tensors(resource) {
            output.print(format!("{}  {}#{}", tensor.digest, resource.path, sentry::printable(&tensor.name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tensors(resource: &Resource) -> &[sentry::TensorDigest] {
    match &resource.annotation {
        Some(Annotation::Safetensors(annotation)) => &annotation.tensors,
        _ => &[],
    }
}

fn file_json(resource: &Resource) -> serde_json::Value {
    let tensors: Vec<_> = tensors(resource)
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape,
                "algorithm": tensor.digest.algorithm().name(),
                "digest": tensor.digest.to_hex(),
            })
        })
        .collect();
    json!({"name": resource.path.as_str(), "digest": resource.digest.to_hex(), "tensors": tensors})
}
