//! `sentry policy`

use std::process::ExitCode;

use sentry::{ArtifactName, Policy, Rule, printable, read_policy};
use serde_json::{Value, json};

use crate::args::{PolicyCheck, PolicyCommand};
use crate::output::{Output, count};

pub fn run(command: &PolicyCommand, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check(arguments) => check(arguments, output),
    }
}

fn check(arguments: &PolicyCheck, output: &Output) -> anyhow::Result<ExitCode> {
    let policy = read_policy(&arguments.policy)?;
    let artifact: ArtifactName = arguments.artifact.parse()?;
    let decision = policy.decide(&artifact).map_err(sentry::Error::from)?;
    let decides = decision.rule();
    let place = policy.rules().iter().take_while(|rule| rule.name != decides.name).count();
    output.document(&json!({
        "artifact": arguments.artifact,
        "passed_over": policy.rules()[..place].iter().map(|rule| &rule.name).collect::<Vec<_>>(),
        "rule": rule_json(&policy, decides, &artifact),
    }))?;
    output.print(format!("artifact   {artifact}"))?;
    for rule in &policy.rules()[..place] {
        output.print(format!("no         rule \"{}\": {} does not match", printable(&rule.name), patterns(rule)))?;
    }
    let matching = decides.pattern_for(&artifact).map(ToString::to_string).unwrap_or_default();
    output.print(format!("decides    rule \"{}\": {matching} matches, and is the first that does", printable(&decides.name)))?;
    let who = if decides.threshold == decides.signers.len() { "all".to_owned() } else { decides.threshold.to_string() };
    output.print(format!("must sign  {who} of {}", count(decides.signers.len(), "signer")))?;
    for name in &decides.signers {
        output.print(format!("           {}: {}", printable(name), describe(&policy, name)))?;
    }
    for (label, condition) in conditions(decides) {
        output.print(format!("{label:10} {condition}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn patterns(rule: &Rule) -> String {
    rule.artifacts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn describe(policy: &Policy, signer: &str) -> String {
    policy.signer(signer).map(ToString::to_string).unwrap_or_default()
}

/// What a rule asks for besides signers, in words.
fn conditions(rule: &Rule) -> Vec<(&'static str, String)> {
    let mut found = vec![("about", join(rule.statements.iter().map(|kind| kind.name().to_owned())))];
    let mut also = |label, condition: Option<String>| found.extend(condition.map(|condition| (label, condition)));
    also("signed by", rule.signature_algorithms.as_ref().map(|list| join(list.iter().map(ToString::to_string))));
    also("hashed by", rule.hashes.as_ref().map(|list| join(list.iter().map(ToString::to_string))));
    also("payload", rule.payload.as_ref().map(|list| join(list.iter().map(ToString::to_string))));
    also("root", rule.root.as_ref().map(|list| join(list.iter().map(ToString::to_string))));
    also("version", rule.lowest_version.map(|lowest| format!("{lowest} or later")));
    also("signed", rule.signed_after.map(|after| format!("after {after}, by a timestamp")));
    also("sources", rule.sources.as_ref().map(|list| format!("exactly {}", join(list.iter().map(|name| printable(name))))));
    found
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn rule_json(policy: &Policy, rule: &Rule, artifact: &ArtifactName) -> Value {
    let signers: Vec<Value> = rule.signers.iter().map(|name| json!({"name": name, "is": describe(policy, name)})).collect();
    json!({
        "name": rule.name,
        "artifacts": rule.artifacts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "matches": rule.pattern_for(artifact).map(ToString::to_string),
        "signers": signers,
        "threshold": rule.threshold,
        "statements": rule.statements.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "signature_algorithms": rule.signature_algorithms.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "hashes": rule.hashes.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "payload": rule.payload.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "root": rule.root.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "lowest_version": rule.lowest_version,
        "signed_after": rule.signed_after.map(|after| after.to_string()),
        "sources": rule.sources,
    })
}
