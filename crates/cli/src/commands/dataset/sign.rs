//! `sentry dataset sign`

use std::process::ExitCode;

use sentry::{DatasetSignOptions, IdRule, ReadOptions};

use super::{contributors, say_signed};
use crate::args::DatasetSign;
use crate::input::with_signer;
use crate::output::Output;
use crate::progress::Progress;

pub fn run(arguments: &DatasetSign, output: &Output) -> anyhow::Result<ExitCode> {
    let options = DatasetSignOptions {
        signature: arguments.signature.clone(),
        name: arguments.name.clone(),
        version: arguments.artifact_version,
        read: ReadOptions { ids: arguments.id.clone().map(IdRule::Column), source_column: arguments.source.clone(), fields: None },
        tables: !arguments.no_tables,
        timestamp: arguments.signer.timestamp.clone(),
    };
    let contributors = contributors(&arguments.contributors)?;
    let progress = Progress::new(output);
    let sign = |signer: &dyn sentry::Signer, _: &sentry::PublicKey| {
        Ok(sentry::sign_dataset(&arguments.dataset, signer, &contributors, &options, &progress)?)
    };
    let (signed, fingerprint) = with_signer(&arguments.signer, sign)?;
    drop(progress);
    say_signed(&signed, &fingerprint, &arguments.dataset, output)?;
    Ok(ExitCode::SUCCESS)
}
