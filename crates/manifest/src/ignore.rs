//! Which paths of a directory a signature leaves out.

use std::collections::HashSet;

use crate::ModelPath;

/// What lies at a path, as far as ignoring goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, or a hub cache's link to one.
    File,
    /// A directory.
    Directory,
    /// A link or a special file.
    Other,
}

/// Left out of every model, at its top only (OpenSSF Model Signing v1.0).
pub const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Where a download from the Hugging Face hub to a folder of one's own keeps its notes.
pub const HUB_NOTES: &str = ".cache/huggingface";

/// Whether a file is such a note: it belongs to the copy and not to the model, and nobody loads it.
pub fn is_hub_note(path: &str) -> bool {
    let Some(name) = path.strip_prefix(HUB_NOTES).and_then(|rest| rest.strip_prefix('/')) else { return false };
    match name.split_once('/') {
        Some(("download", note)) => [".metadata", ".lock"].iter().any(|suffix| note.ends_with(suffix)),
        Some(("trees", note)) => note.ends_with(".json") && !note.contains('/'),
        Some(_) => false,
        None => matches!(name, ".gitignore" | ".gitignore.lock" | "CACHEDIR.TAG"),
    }
}

/// Ending of the names of signature files.
pub const SIGNATURE_SUFFIX: &str = ".sig";

/// Paths to leave out. An ordinary entry hides the path and all beneath. A signature's path hides one regular file and
/// never a folder, so that a folder of that name cannot smuggle files in; as a list of ignored paths does not say
/// which of them is the signature's, every entry that ends in `.sig` is taken for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreRules {
    paths: HashSet<String>,
    signature_paths: HashSet<String>,
}

impl IgnoreRules {
    /// Hides `path`, relative to the model, and everything beneath it; if it ends in `.sig`, one file. Text that is no
    /// path inside the model hides nothing.
    pub fn add(&mut self, path: &str) {
        match ModelPath::new(path) {
            Ok(path) if path.as_str().ends_with(SIGNATURE_SUFFIX) => self.add_signature(&path),
            Ok(_) => drop(self.paths.insert(path.to_owned())),
            Err(_) => {}
        }
    }

    /// Hides the signature file at `path`, relative to the model.
    pub fn add_signature(&mut self, path: &ModelPath) {
        self.signature_paths.insert(path.as_str().to_owned());
    }

    /// The rule that hides `path`, if any.
    pub fn hides(&self, path: &ModelPath, kind: EntryKind) -> Option<&str> {
        let signature = self.signature_paths.get(path.as_str());
        if kind == EntryKind::File && signature.is_some() {
            return signature.map(String::as_str);
        }
        if let Some(entry) = GIT_PATHS.into_iter().find(|entry| path.is_within(entry)) {
            return Some(entry);
        }
        let ends = path.as_str().match_indices('/').map(|(end, _)| end).chain([path.as_str().len()]);
        let mut above = ends.filter_map(|end| self.paths.get(&path.as_str()[..end]));
        above.find(|entry| !self.signature_paths.contains(*entry)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_the_hub_have_few_names() {
        for note in ["CACHEDIR.TAG", ".gitignore", "download/a.metadata", "download/sub/a.safetensors.lock"] {
            assert!(is_hub_note(&format!("{HUB_NOTES}/{note}")), "{note}");
        }
        for other in ["download/a.safetensors", "download/a.incomplete", "a.metadata", "x/CACHEDIR.TAG", ""] {
            assert!(!is_hub_note(&format!("{HUB_NOTES}/{other}")), "{other}");
        }
        assert!(!is_hub_note("sub/.cache/huggingface/CACHEDIR.TAG") && !is_hub_note(".cache/huggingface.metadata"));
    }

    #[test]
    fn a_signature_path_hides_a_file_and_no_folder() {
        let path = |text| ModelPath::new(text).unwrap();
        let mut rules = IgnoreRules::default();
        rules.add("model.sig");
        rules.add("notes");
        rules.add("old.sig");
        rules.add("..");
        rules.add(".");
        rules.add_signature(&path("model.sig"));
        for (name, kind, hidden) in [
            ("model.sig", EntryKind::File, true),
            ("model.sig", EntryKind::Directory, false),
            ("model.sig", EntryKind::Other, false),
            ("model.sig/weights.bin", EntryKind::File, false),
            ("notes", EntryKind::Directory, true),
            ("notes", EntryKind::Other, true),
            ("notes/a/b", EntryKind::File, true),
            ("notes2", EntryKind::File, false),
            ("old.sig", EntryKind::File, true),
            ("old.sig", EntryKind::Directory, false),
            ("old.sig/weights.bin", EntryKind::File, false),
            (".git", EntryKind::Directory, true),
            (".gitignore", EntryKind::File, true),
            ("sub/.git", EntryKind::Directory, false),
            ("weights.bin", EntryKind::File, false),
        ] {
            assert_eq!(rules.hides(&path(name), kind).is_some(), hidden, "{name}");
        }
    }
}
