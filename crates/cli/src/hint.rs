//! What a reader can do about an error, by the command that met it. The libraries say what is wrong; only here is it
//! known what was typed.

use std::path::Path;

use sentry::{DifferenceKind, Error, default_dataset_signature_path};

use crate::args::{Command, Dataset, DatasetCommand, DatasetVerify};

/// The hint for an error, where there is something to do.
pub fn hint(command: &Command, error: &Error) -> Option<&'static str> {
    let code = error.code();
    match command {
        Command::Sign(_) => signing(code),
        Command::Verify(verify) if is_of_dataset(&verify.signed.path, code, error) => Some("this is a dataset: sentry dataset verify"),
        Command::Verify(_) | Command::Load(_) => verifying(code, error),
        Command::Inspect(_) | Command::Diff(_) => reading_signature(code),
        Command::Hash(_) | Command::Bench(_) => hashing(code),
        Command::Dataset(Dataset { command }) => dataset(command, code, error),
        _ => None,
    }
}

fn dataset(command: &DatasetCommand, code: &str, error: &Error) -> Option<&'static str> {
    match (command, code) {
        (DatasetCommand::Verify(verify), "dataset_differs" | "sample_repeated") => Some(differing_samples(verify, error)),
        (DatasetCommand::Verify(_), "symlink" | "symlink_escape" | "symlink_cycle" | "special_file") => {
            Some("no signature covers it; remove it, or fetch the dataset again")
        }
        (DatasetCommand::Verify(_), "file_changed_while_read") => Some("make sure that nothing writes to the dataset, then verify again"),
        (DatasetCommand::Verify(_), "predicate_type") => Some("this is no dataset's signature: sentry verify is for models"),
        (DatasetCommand::Verify(_), "table_differs" | "table_malformed") => Some("fetch the table again: it lies beside the signature"),
        (DatasetCommand::Verify(_), "table_state") => Some("do not use this dataset: its signature blesses two different contents"),
        (DatasetCommand::Verify(_), "signature_not_found") => {
            Some("name the signature with --signature; a publisher makes one with: sentry dataset sign")
        }
        (DatasetCommand::Verify(_), "contributor_statement") => {
            Some("give the contributor's signature and key: --contributor, --contributor-key")
        }
        (DatasetCommand::Verify(_), code) => verifying(code, error),
        (DatasetCommand::Sign(_) | DatasetCommand::Update(_), "dataset_column") => Some("choose the column with --id or --source"),
        (DatasetCommand::Sign(_), "sample_repeated") => Some("choose a column of unique ids with --id"),
        (DatasetCommand::Sign(_) | DatasetCommand::Update(_), code) => signing(code),
        (DatasetCommand::Diff(_) | DatasetCommand::Inspect(_), code) => reading_signature(code),
    }
}

/// Whether the signature of a dataset was taken for a model's, or is all that there is.
fn is_of_dataset(path: &Path, code: &str, error: &Error) -> bool {
    match code {
        "signature_not_found" => path.is_dir() && default_dataset_signature_path(path).is_file(),
        "predicate_type" => error.to_string().contains(sentry::uris::DATASET_V1),
        _ => false,
    }
}

/// Without the column that sources were taken from, samples seem to be in other ones.
fn differing_samples(verify: &DatasetVerify, error: &Error) -> &'static str {
    let differences = error.differences();
    let has = |wanted| differences.iter().any(|difference| difference.kind == wanted);
    let are_other_sources = has(DifferenceKind::UnsignedSource) && has(DifferenceKind::MissingSource);
    if verify.source.is_none() && (are_other_sources || error.code() == "sample_repeated") {
        "do not train on this dataset, unless its sources come from a column: name that with --source, and verify again"
    } else {
        "do not train on this dataset; fetch it again from its publisher"
    }
}

fn signing(code: &str) -> Option<&'static str> {
    Some(match code {
        "symlink" => "replace the link by the file, or sign with --allow-symlinks",
        "symlink_escape" => "copy the file into the model; links may only lead to files inside",
        "special_file" => "remove it, or leave it out with --ignore",
        "file_changed_while_read" => "make sure that nothing writes to the model, then sign again",
        "ambiguous_names" | "non_utf8_name" | "unsafe_path" => "rename the file",
        "certificate_other_key" => "give the certificate that was issued for this key",
        "timestamp_unavailable" => "check the address; signing without --timestamp works",
        "empty_manifest" => "the model has no file, or all of them are ignored",
        "empty_file" => "sign whole files, without --shard-size, or leave it out with --ignore",
        "would_overwrite" => "choose another file with --signature",
        "key_encrypted" => "give the password with --password-file, in SENTRY_KEY_PASSWORD, or at the prompt",
        "key_password" => "check the password in --password-file or SENTRY_KEY_PASSWORD",
        "key_pem" | "rsa_key" | "curve_not_allowed" | "unsupported_key" => "make a key with: sentry keygen",
        "explicit_curve_parameters" => "make a key with: sentry keygen, or: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        safetensors if safetensors.starts_with("safetensors_") => {
            "save the file again with the safetensors library, or sign with --no-annotations"
        }
        _ => return None,
    })
}

fn verifying(code: &str, error: &Error) -> Option<&'static str> {
    Some(match code {
        "signature_not_found" => "name the signature with --signature; a publisher makes one with: sentry sign",
        "signature_invalid" => "the key is not the signer's, or the statement was altered after signing",
        "method_mismatch" => "trust what the signature was made with: --key, or --certificate-root with --identity",
        "sigstore_method_unsupported" => "this version does not check Sigstore identities; model-signing does",
        "certificate_unknown_issuer" => "name the root of the signer's authority with --certificate-root",
        "certificate_expired" => "a timestamp made while it was valid would help: --timestamp when signing, --timestamp-root here",
        "certificate_of_authority" => "ask the publisher for a certificate that is no authority's; --allow-ca-leaf accepts this one",
        "certificate_file" => "give PEM files with the certificates of authorities",
        "timestamp_untrusted" => "name the root of the timestamp authority with --timestamp-root",
        "policy_no_rule" => "name the artifact as the policy does with --artifact, or add a rule for it",
        "policy_signers" => "name all signatures with --signature, once each",
        "signature_number" => "give one --signature, or a --policy that counts several",
        "legacy_v0_2" => "ask the publisher to sign the model again with a current tool",
        "key_pem" | "rsa_key" | "curve_not_allowed" | "unsupported_key" | "point_not_on_curve" => {
            "ask the signer for the public key: the file that ends in .pub"
        }
        "file_changed_while_read" => "make sure that nothing writes to the model, then verify again",
        "json_invalid" | "json_field" | "media_type" => "is this a signature file made by sentry or model-signing?",
        "symlink" | "symlink_escape" | "symlink_cycle" | "special_file" => "no signature covers it; remove it, or fetch the model again",
        "model_differs" => return Some(differing(error)),
        _ => return None,
    })
}

fn hashing(code: &str) -> Option<&'static str> {
    Some(match code {
        "gpu_serial_algorithm" => "choose --hash blake3 or sha256-tree, or --device cpu",
        "gpu_no_driver" | "gpu_old_driver" | "gpu_not_found" | "gpu_too_old" => "--device cpu hashes on this machine's cores",
        "gpu_out_of_memory" => "end what else uses the GPU, or choose --device cpu",
        _ => return None,
    })
}

fn differing(error: &Error) -> &'static str {
    let differences = error.differences();
    if differences.iter().any(|difference| difference.kind == DifferenceKind::AnnotationMismatch) {
        "do not use this model: its signature blesses two different contents"
    } else if differences.iter().any(|difference| difference.kind != DifferenceKind::UnsignedFile) {
        "do not use this model; fetch it again from its publisher"
    } else {
        "remove the files that are not signed, or allow them with --ignore PATH or --ignore-unsigned-files"
    }
}

fn reading_signature(code: &str) -> Option<&'static str> {
    Some(match code {
        "json_invalid" | "json_field" | "media_type" | "special_file" | "bundle_too_large" => {
            "is this a signature file made by sentry or model-signing?"
        }
        _ => return None,
    })
}
