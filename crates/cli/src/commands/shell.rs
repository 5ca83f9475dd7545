//! `sentry completions` and `sentry man`

use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Arguments, Completions, Man};
use crate::output::Output;

pub fn completions(arguments: &Completions, output: &Output) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "sentry", &mut script);
    output.print(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(arguments: &Man, output: &Output) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&arguments.out)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), &arguments.out))
        .with_context(|| format!("cannot write to \"{}\"", sentry::printable_path(&arguments.out)))?;
    output.say(format!("manual pages are in {}", sentry::printable_path(&arguments.out)));
    Ok(ExitCode::SUCCESS)
}
