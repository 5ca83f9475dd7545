//! `sentry dataset inspect`

use std::process::ExitCode;

use sentry::{DatasetStatement, printable, printable_path};
use serde_json::json;

use super::{ids, manifest_json};
use crate::args::DatasetInspect;
use crate::commands::inspect::{signer, signer_json};
use crate::output::{Output, count};

pub fn run(arguments: &DatasetInspect, output: &Output) -> anyhow::Result<ExitCode> {
    let bundle = sentry::read_bundle(&arguments.signature)?;
    let bundle = bundle.claims();
    let statement = DatasetStatement::parse(&bundle.payload).map_err(sentry::Error::from)?;
    let manifest = &statement.manifest;
    output.document(&json!({"checked": false, "signer": signer_json(bundle), "dataset": manifest_json(manifest)}))?;
    output.print(format!("signature   {}", printable_path(&arguments.signature)))?;
    output.print(format!("claims      to be signed by {}", signer(bundle)))?;
    output.print(format!("dataset     {}", printable(manifest.name())))?;
    if let Some(version) = manifest.version() {
        output.print(format!("version     {version}"))?;
    }
    output.print(format!("covers      {}", count(manifest.whole().count() as usize, "sample")))?;
    output.print(format!("ids         {}", printable(&ids(manifest.ids()))))?;
    output.print(format!("digest      {}", manifest.digest()))?;
    for field in manifest.fields() {
        output.print(format!("field       {} {}", printable(&field.name), printable(&field.arrow_type)))?;
    }
    for source in manifest.sources() {
        let table =
            source.table.as_ref().map_or_else(|| "no table".to_owned(), |table| format!("table {}", printable(table.path.as_str())));
        let samples = count(source.state.count() as usize, "sample");
        output.print(format!("source      {} ({samples}, {table})", printable(&source.name)))?;
    }
    output.say("nothing was checked: that takes `sentry dataset verify` and a key that you trust");
    Ok(ExitCode::SUCCESS)
}
