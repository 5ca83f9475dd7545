//! Names of files inside a model.

use std::fmt;
use std::path::Path;

use crate::ManifestError;
use crate::limits::{MAX_NAME_BYTES, MAX_PRINTED};

/// A relative path inside a model in its one canonical form: UTF-8, `/` between components, no empty, `.`
/// or `..` component, no backslash, NUL or drive. Compared byte by byte, so case matters.
///
/// Printing escapes control and invisible characters, so that a name cannot forge terminal output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelPath(String);

impl ModelPath {
    /// Takes a name from a manifest or a directory.
    ///
    /// # Errors
    /// [`ManifestError::UnsafePath`] with the reason.
    pub fn new(name: &str) -> Result<Self, ManifestError> {
        match objection(name) {
            None => Ok(Self(name.to_owned())),
            Some(reason) => Err(ManifestError::UnsafePath { name: printable(name), reason }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this path is `prefix` or lies beneath it.
    pub fn is_within(&self, prefix: &str) -> bool {
        self.0.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn objection(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return Some("it is longer than 4096 bytes");
    }
    if name.starts_with('/') {
        return Some("it is absolute");
    }
    if name.contains('\\') {
        return Some("it has a backslash");
    }
    if name.contains('\0') {
        return Some("it has a NUL byte");
    }
    let bytes = name.as_bytes();
    if bytes[0].is_ascii_alphabetic() && bytes.get(1) == Some(&b':') {
        return Some("it starts with a drive letter");
    }
    name.split('/').find_map(|component| match component {
        "" => Some("it has an empty component"),
        "." => Some("it has a '.' component"),
        ".." => Some("it has a '..' component"),
        _ => None,
    })
}

impl fmt::Display for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

/// A name as it can be printed between double quotes on a terminal: control and invisible characters, quotes and
/// backslashes are escaped.
pub fn printable(name: &str) -> String {
    escape(name, &['\''])
}

/// A sentence of another library, safe to print; its quotes stay.
pub(crate) fn printable_sentence(text: &str) -> String {
    escape(text, &['\'', '"', '\\'])
}

/// A path as it can be printed between double quotes on a terminal.
pub fn printable_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn escape(text: &str, keep: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (position, c) in text.chars().enumerate() {
        if position == MAX_PRINTED {
            escaped.push_str("...");
            break;
        }
        if keep.contains(&c) { escaped.push(c) } else { escaped.extend(c.escape_debug()) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_pass() {
        for good in ["a", "a/b.txt", "xy:z", "..a/b..", "…", "a b", "C", "a\nb", "\u{e9}"] {
            assert_eq!(ModelPath::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", ".", "..", "/a", "a/", "a//b", "a/./b", "a/../b", "../a", "a\\b", "a\0", "C:/a", "C:", "c:a", &long] {
            assert!(matches!(ModelPath::new(bad), Err(ManifestError::UnsafePath { .. })), "{bad}");
        }
    }

    #[test]
    fn printing_shows_no_control_characters() {
        assert_eq!(ModelPath::new("a\u{1b}[2Jb\u{202e}").unwrap().to_string(), "a\\u{1b}[2Jb\\u{202e}");
        assert_eq!(printable("c\" is not signed"), "c\\\" is not signed");
    }

    #[test]
    fn within_goes_by_component() {
        let path = ModelPath::new("dir/file").unwrap();
        assert!(path.is_within("dir") && path.is_within("dir/file"));
        assert!(!path.is_within("di") && !path.is_within("file") && !path.is_within("dir/file/x"));
    }
}
