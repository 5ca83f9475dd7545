//! `sentry dataset`, as it is typed: what it prints, and how it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A folder of a test's own, with a pair of keys and a dataset of two sources.
struct Place(PathBuf);

/// What came of a command.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sentry-dataset-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("pets")).unwrap();
        let place = Self(folder);
        place.write("pets/train.csv", "id,text\n1,cat\n2,dog\n3,cow\n");
        place.write("pets/test.csv", "id,text\n1,ant\n9,bee\n");
        assert_eq!(place.run("keygen --out k.key").code, Some(0));
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs a command line without quotes.
    fn run(&self, line: &str) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_sentry")).args(line.split(' ')).current_dir(&self.0).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The one document that a command prints.
    fn document(&self, line: &str) -> (Option<i32>, Value) {
        let Ended { code, stdout, .. } = self.run(&format!("{line} --json"));
        (code, serde_json::from_str(&stdout).unwrap())
    }

    fn sign(&self) {
        let signed = self.run("dataset sign pets --key k.key --artifact-version 3");
        assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_was_signed_is_verified_inspected_and_the_same() {
    let place = Place::new("signed");
    place.write("pets/README.md", "about");
    let (code, signed) = place.document("dataset sign pets --key k.key --artifact-version 3");
    assert_eq!((code, &signed["status"]), (Some(0), &"signed".into()));
    let dataset = &signed["dataset"];
    assert_eq!(
        (&dataset["name"], &dataset["version"], &dataset["samples"], &dataset["ids"]),
        (&"pets".into(), &3.into(), &5.into(), &"column id".into())
    );
    assert_eq!(dataset["fields"][1], serde_json::json!({"name": "text", "type": "Utf8"}));
    assert_eq!(signed["others"], serde_json::json!(["README.md"]));
    for source in dataset["sources"].as_array().unwrap() {
        assert!(place.0.join("pets").join(source["table"].as_str().unwrap()).is_file(), "{source}");
    }

    let (code, verified) = place.document("dataset verify pets --key k.pub");
    assert_eq!((code, &verified["status"], &verified["dataset"]), (Some(0), &"verified".into(), dataset));
    let (code, inspected) = place.document("dataset inspect pets/dataset.sig");
    assert_eq!((code, &inspected["checked"], &inspected["dataset"]), (Some(0), &false.into(), dataset));
    let (code, same) = place.document("dataset diff pets");
    assert_eq!((code, same), (Some(0), serde_json::json!({"same": true, "differences": []})));

    let people = place.run("dataset verify pets --key k.pub");
    assert_eq!((people.code, people.stdout.as_str()), (Some(0), ""));
    for line in ["verified pets (5 samples, ", "  source     train (3 samples)", "  version    3", "note: README.md holds no samples"] {
        assert!(people.stderr.contains(line), "{line} in {}", people.stderr);
    }
    let quiet = place.run("--quiet dataset verify pets --key k.pub");
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_changed_sample_is_named_and_rejected() {
    let place = Place::new("changed");
    place.sign();
    place.write("pets/test.csv", "id,text\n1,ant\n9,bug\n");
    let (code, rejected) = place.document("dataset verify pets --key k.pub");
    let error = &rejected["error"];
    assert_eq!((code, &rejected["status"], &error["code"]), (Some(1), &"rejected".into(), &"dataset_differs".into()));
    let difference = &error["differences"][0];
    assert_eq!((&difference["kind"], &difference["source"], &difference["sample"]), (&"changed_sample".into(), &"test".into(), &9.into()));
    let people = place.run("dataset verify pets --key k.pub");
    assert!(people.stderr.contains("sample 9 of source \"test\"") && !people.stderr.contains("verified"), "{}", people.stderr);
    assert!(people.stderr.contains("hint: do not train on this dataset; fetch it again from its publisher"), "{}", people.stderr);
    let different = place.run("dataset diff pets");
    assert_eq!(different.code, Some(1));
    assert!(different.stdout.contains("sample 9 of source \"test\""), "{}", different.stdout);
}

#[test]
fn who_may_sign_is_asked_of_a_policy_too() {
    let place = Place::new("policy");
    place.sign();
    let verify = |conditions: &str| {
        let head = "policy = 1\n[signer.\"us\"]\nkey = \"k.pub\"\n[[rule]]\nartifacts = [\"acme/pets\"]\nsigners = [\"us\"]\n";
        place.write("policy.toml", &format!("{head}{conditions}\n"));
        let (code, document) = place.document("dataset verify pets --policy policy.toml --artifact acme/pets");
        (code, document["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(verify("statements = [\"dataset\"]\nsources = [\"test\", \"train\"]\nlowest_version = 3"), (Some(0), None));
    assert_eq!(verify("statements = [\"files\"]"), (Some(1), Some("policy_statement".to_owned())));
    assert_eq!(verify("statements = [\"dataset\"]\nsources = [\"train\"]"), (Some(1), Some("policy_sources".to_owned())));
    assert_eq!(verify("statements = [\"dataset\"]\nlowest_version = 4"), (Some(1), Some("policy_version".to_owned())));
}

#[test]
fn an_update_reads_only_what_is_named() {
    let place = Place::new("update");
    place.sign();
    place.write("pets/train-2.csv", "id,text\n7,emu\n");
    place.write("pets/test.csv", "id,text\n9,bee\n");
    let (code, updated) = place.document("dataset update pets --key k.key --add pets/train-2.csv --remove test:1");
    assert_eq!((code, &updated["dataset"]["samples"], &updated["dataset"]["version"]), (Some(0), &5.into(), &4.into()), "{updated}");
    assert_eq!(updated["bytes"], fs::metadata(place.0.join("pets/train-2.csv")).unwrap().len());
    assert_eq!(place.run("dataset verify pets --key k.pub").code, Some(0));

    for (line, message) in [
        (" --remove train:1 --artifact-version 9007199254740992", "a version is at most 2^53 - 1"),
        ("", "say what is to be changed: --add, --replace or --remove"),
        (" --remove train", "--remove \"train\" is not SOURCE:ID"),
        (" --remove train:8", "source \"train\" has no sample with id 8"),
        (" --remove train:cat", "source \"train\" has no sample with id cat"),
        (" --add pets/train-2.csv", "source \"train\" has a sample with id 7 already"),
        (" --add nothing.csv", "cannot read \"nothing.csv\""),
    ] {
        let refused = place.run(&format!("dataset update pets --key k.key{line}"));
        assert_eq!(refused.code, Some(2), "{line}");
        assert!(refused.stderr.contains(message), "{message} in {}", refused.stderr);
    }
    assert_eq!(place.run("dataset verify pets --key k.pub").code, Some(0));
}

#[test]
fn the_command_for_models_says_which_one_is_for_datasets() {
    let place = Place::new("hints");
    place.sign();
    for line in ["verify pets --key k.pub", "verify pets --signature pets/dataset.sig --key k.pub"] {
        let refused = place.run(line);
        assert!(refused.code != Some(0) && refused.stderr.contains("hint: this is a dataset: sentry dataset verify"), "{}", refused.stderr);
    }
    assert_eq!(place.run("sign pets --key k.key --signature model.sig").code, Some(0));
    let refused = place.run("dataset verify pets --key k.pub --signature model.sig");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("hint: this is no dataset's signature: sentry verify is for models"), "{}", refused.stderr);
}

#[test]
fn sources_of_a_column_are_asked_for() {
    let place = Place::new("column");
    fs::remove_file(place.0.join("pets/test.csv")).unwrap();
    place.write("pets/train.csv", "id,split,text\n1,a,cat\n1,b,dog\n");
    assert_eq!(place.run("dataset sign pets --key k.key --source split").code, Some(0));
    assert_eq!(place.run("dataset verify pets --key k.pub --source split").code, Some(0));
    let refused = place.run("dataset verify pets --key k.pub");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("name that with --source"), "{}", refused.stderr);
}
