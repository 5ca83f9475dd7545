//! Names that a certificate gives its holder.

use std::fmt;
use std::str::FromStr;

use sentry_manifest::printable;

/// A subject alternative name (RFC 5280, section 4.2.1.6). Two are the same if they are of one kind and equal byte by byte:
/// no patterns, no suffixes, no folding of case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SubjectName {
    /// An address, such as `release@acme.example`.
    Email(String),
    /// A URI, such as that of a workflow or a SPIFFE identity, `spiffe://acme.example/trainer`.
    Uri(String),
    /// A host, such as `builder.acme.example`.
    Dns(String),
}

/// A text that is no address, URI or host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is no identity: give an e-mail address, a URI such as spiffe://…, or a host name, without patterns")]
pub struct SubjectNameError {
    /// The text, escaped for printing.
    found: String,
}

impl FromStr for SubjectName {
    type Err = SubjectNameError;

    /// Tells the kinds apart by their form: a URI has a scheme, an address an `@`, a host neither.
    fn from_str(text: &str) -> Result<Self, SubjectNameError> {
        let fail = || SubjectNameError { found: printable(text) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail());
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(letters);
            return if valid && !rest.is_empty() { Ok(Self::Uri(text.to_owned())) } else { Err(fail()) };
        }
        if let Some((mailbox, host)) = text.split_once('@') {
            return if !mailbox.is_empty() && is_host(host) { Ok(Self::Email(text.to_owned())) } else { Err(fail()) };
        }
        if is_host(text) { Ok(Self::Dns(text.to_owned())) } else { Err(fail()) }
    }
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    text.split('.').all(label)
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Email(text) | Self::Uri(text) | Self::Dns(text)) = self;
        f.write_str(&printable(text))
    }
}

impl SubjectName {
    /// What kind of name it is: `email`, `uri` or `dns`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Uri(_) => "uri",
            Self::Dns(_) => "dns",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_their_form() {
        for (text, kind) in [
            ("release@acme.example", "email"),
            ("spiffe://acme.example/trainer", "uri"),
            ("https://git.example/acme/build.yml@refs/heads/main", "uri"),
            ("urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2", "uri"),
            ("builder.acme.example", "dns"),
            ("localhost", "dns"),
        ] {
            let name: SubjectName = text.parse().unwrap();
            assert_eq!((name.kind(), name.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn patterns_and_fragments_are_no_names() {
        let texts =
            ["", "*", "*.acme.example", ".*@acme.example", "@acme.example", "a@", "a@b@c", "a b", "a\n", ".acme", "a..b", ":x", "x:", "é"];
        for text in texts {
            let parsed = text.parse::<SubjectName>();
            assert!(parsed.is_err() || text == ".*@acme.example", "{text:?} is {parsed:?}");
        }
        // What looks like an expression is an address like any other, and equals nothing but itself.
        assert_ne!(".*@acme.example".parse::<SubjectName>().unwrap(), "a@acme.example".parse().unwrap());
    }
}
