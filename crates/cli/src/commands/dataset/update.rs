//! `sentry dataset update`

use std::process::ExitCode;

use anyhow::{Context, bail};
use sentry::{Changes, DatasetSignOptions, ReadOptions, TrustedKey, printable, read_public_key};

use super::say_signed;
use crate::args::DatasetUpdate;
use crate::input::with_signer;
use crate::output::Output;
use crate::progress::Progress;

pub fn run(arguments: &DatasetUpdate, output: &Output) -> anyhow::Result<ExitCode> {
    let remove = arguments.remove.iter().map(|text| sample(text)).collect::<anyhow::Result<_>>()?;
    let changes = Changes { add: arguments.add.clone(), replace: arguments.replace.clone(), remove };
    if changes == Changes::default() {
        bail!("say what is to be changed: --add, --replace or --remove");
    }
    let options = DatasetSignOptions {
        signature: arguments.signature.clone(),
        version: arguments.artifact_version,
        read: ReadOptions { source_column: arguments.source.clone(), ..ReadOptions::default() },
        timestamp: arguments.signer.timestamp.clone(),
        ..DatasetSignOptions::default()
    };
    let old_key = arguments.old_key.as_deref().map(read_public_key).transpose()?;
    let progress = Progress::new(output);
    let update = |signer: &dyn sentry::Signer, key: &sentry::PublicKey| {
        let trusted = TrustedKey::new(old_key.as_ref().unwrap_or(key));
        Ok(sentry::update_dataset(&arguments.dataset, &changes, &trusted, signer, &options, &progress)?)
    };
    let (signed, fingerprint) = with_signer(&arguments.signer, update)?;
    drop(progress);
    say_signed(&signed, &fingerprint, &arguments.dataset, output)?;
    Ok(ExitCode::SUCCESS)
}

/// `SOURCE:ID`; a source's name may have colons itself.
fn sample(text: &str) -> anyhow::Result<(String, String)> {
    let (source, id) = text.rsplit_once(':').with_context(|| format!("--remove \"{}\" is not SOURCE:ID", printable(text)))?;
    Ok((source.to_owned(), id.to_owned()))
}
