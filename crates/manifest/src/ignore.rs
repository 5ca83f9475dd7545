//! Which paths of a directory a signature leaves out.

use crate::ModelPath;

/// Left out of every model, at its top only (OpenSSF Model Signing v1.0).
pub const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Paths to leave out. An ordinary entry hides the path and all beneath; a signature's own path hides one
/// regular file and never a folder, so that a folder of that name cannot smuggle files in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreRules {
    paths: Vec<String>,
    signature_paths: Vec<String>,
}

impl IgnoreRules {
    /// Hides `path`, relative to the model, and everything beneath it. Text that is no path inside the
    /// model hides nothing.
    pub fn add(&mut self, path: &str) {
        if ModelPath::new(path).is_ok() {
            self.paths.push(path.to_owned());
        }
    }

    /// Hides the signature file at `path`, relative to the model.
    pub fn add_signature(&mut self, path: &ModelPath) {
        self.signature_paths.push(path.as_str().to_owned());
    }

    /// The rule that hides `path`, if any.
    pub fn hides(&self, path: &ModelPath, is_directory: bool) -> Option<&str> {
        let hides_file = |entry: &&String| !is_directory && entry.as_str() == path.as_str();
        if let Some(entry) = self.signature_paths.iter().find(hides_file) {
            return Some(entry);
        }
        if let Some(entry) = GIT_PATHS.into_iter().find(|entry| path.is_within(entry)) {
            return Some(entry);
        }
        self.paths.iter().filter(|entry| !self.signature_paths.contains(entry)).find(|entry| path.is_within(entry)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_path_hides_a_file_and_no_folder() {
        let path = |text| ModelPath::new(text).unwrap();
        let mut rules = IgnoreRules::default();
        rules.add("model.sig");
        rules.add("notes");
        rules.add("..");
        rules.add(".");
        rules.add_signature(&path("model.sig"));
        for (name, is_directory, hidden) in [
            ("model.sig", false, true),
            ("model.sig", true, false),
            ("model.sig/weights.bin", false, false),
            ("notes", true, true),
            ("notes/a/b", false, true),
            ("notes2", false, false),
            (".git", true, true),
            (".gitignore", false, true),
            ("sub/.git", true, false),
            ("weights.bin", false, false),
        ] {
            assert_eq!(rules.hides(&path(name), is_directory).is_some(), hidden, "{name}");
        }
    }
}
