//! `sentry`: sign machine-learning models and datasets, and verify them.
//!
//! This file maps results to exit codes; `args` is the grammar, `commands` has a file a command, `output` is
//! everything that is printed.
//!
//! Exit codes: 0 verified, 1 rejected, 2 could not check.

#![forbid(unsafe_code)]

#[cfg(sentry_count_bytes)]
compile_error!("a build that counts bytes instead of hashing them is for one benchmark of the Python package, and verifies nothing");

mod args;
mod commands;
mod hint;
mod input;
mod output;
mod progress;
mod trust;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let Arguments { command, quiet } = Arguments::parse();
    let output = Output::new(quiet, command.wants_json());
    let result = match &command {
        Command::Keygen(arguments) => commands::keygen::run(arguments, &output),
        Command::Sign(arguments) => commands::sign::run(arguments, &output),
        Command::Verify(arguments) => commands::verify::run(arguments, &output),
        Command::Load(arguments) => commands::load::run(arguments, &output),
        Command::Hash(arguments) => commands::hash::run(arguments, &output),
        Command::Inspect(arguments) => commands::inspect::run(arguments, &output),
        Command::Diff(arguments) => commands::diff::run(arguments, &output),
        Command::Dataset(arguments) => commands::dataset::run(&arguments.command, &output),
        Command::Policy(arguments) => commands::policy::run(&arguments.command, &output),
        Command::Doctor(arguments) => commands::doctor::run(arguments, &output),
        Command::Bench(arguments) => commands::bench::run(&arguments.command, &output),
        Command::Completions(arguments) => commands::shell::completions(arguments, &output),
        Command::Man(arguments) => commands::shell::man(arguments, &output),
    };
    match result {
        Ok(code) => code,
        Err(error) => output.failure(&error, &command),
    }
}
