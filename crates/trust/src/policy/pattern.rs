//! Names of artifacts, and patterns for them.

use std::fmt;
use std::str::FromStr;

use sentry_manifest::printable;

/// Longest name or pattern in bytes. Comparing two takes time in proportion to the product of their lengths.
const MAX_LENGTH: usize = 512;

/// What the caller calls an artifact: parts with `/` between them, such as `acme/llama-3-8b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactName(String);

/// Which artifacts a rule is about: a name in which `*` stands for anything within a part, and `**`, as a whole part, for one
/// part or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    symbols: Vec<Symbol>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Letter(char),
    WithinPart,
    Parts,
}

/// A text that is no name or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is no {what}: {reason}")]
pub struct ArtifactNameError {
    what: &'static str,
    found: String,
    reason: &'static str,
}

fn check(text: &str, what: &'static str) -> Result<(), ArtifactNameError> {
    let fail = |reason| Err(ArtifactNameError { what, found: printable(text), reason });
    if text.is_empty() || text.len() > MAX_LENGTH {
        return fail("it has from 1 to 512 bytes");
    }
    if text.chars().any(|letter| letter.is_control() || letter == '\\') {
        return fail("it has no control characters and no backslashes");
    }
    if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return fail("it consists of parts with / between them, none of which is empty, . or ..");
    }
    Ok(())
}

impl FromStr for ArtifactName {
    type Err = ArtifactNameError;

    fn from_str(text: &str) -> Result<Self, ArtifactNameError> {
        check(text, "name of an artifact")?;
        if text.contains('*') {
            return Err(ArtifactNameError { what: "name of an artifact", found: printable(text), reason: "it has no *" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl ArtifactName {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl FromStr for Pattern {
    type Err = ArtifactNameError;

    fn from_str(text: &str) -> Result<Self, ArtifactNameError> {
        const WHAT: &str = "pattern for artifacts";
        check(text, WHAT)?;
        let mut symbols = Vec::new();
        for (number, part) in text.split('/').enumerate() {
            if number > 0 {
                symbols.push(Symbol::Letter('/'));
            }
            match part {
                "**" => symbols.push(Symbol::Parts),
                part if part.contains("**") => {
                    return Err(ArtifactNameError { what: WHAT, found: printable(text), reason: "** stands for whole parts" });
                }
                part => symbols.extend(part.chars().map(|letter| if letter == '*' { Symbol::WithinPart } else { Symbol::Letter(letter) })),
            }
        }
        Ok(Self { text: text.to_owned(), symbols })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.text))
    }
}

impl Pattern {
    /// Whether a name is one of those meant.
    pub fn matches(&self, name: &ArtifactName) -> bool {
        let letters: Vec<Symbol> = name.0.chars().map(Symbol::Letter).collect();
        covers(&self.symbols, &letters)
    }

    /// Whether every name that `other` matches is one that this pattern matches.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.symbols, &other.symbols)
    }
}

/// Whether a pattern matches a text, whose wildcards only wider ones match. `reached[i]` says that the symbols before `i` match
/// what was read of the text so far.
fn covers(pattern: &[Symbol], text: &[Symbol]) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_empty(pattern, &mut reached);
    for &symbol in text {
        let mut next = vec![false; pattern.len() + 1];
        for (place, &wanted) in pattern.iter().enumerate() {
            if !reached[place] {
                continue;
            }
            match wanted {
                Symbol::Letter(_) if wanted == symbol => next[place + 1] = true,
                Symbol::Letter(_) => {}
                // Takes any number: stays where it is.
                Symbol::WithinPart => next[place] |= !matches!(symbol, Symbol::Letter('/') | Symbol::Parts),
                Symbol::Parts => {
                    next[place] = true;
                    next[place + 1] = true;
                }
            }
        }
        skip_empty(pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// `*` can stand for nothing.
fn skip_empty(pattern: &[Symbol], reached: &mut [bool]) {
    for (place, symbol) in pattern.iter().enumerate() {
        if reached[place] && *symbol == Symbol::WithinPart {
            reached[place + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&name.parse().unwrap())
    }

    #[test]
    fn a_star_stays_within_its_part() {
        for (pattern, name) in [
            ("acme/llama", "acme/llama"),
            ("acme/*", "acme/llama"),
            ("acme/llama-*-8b", "acme/llama-3-8b"),
            ("acme/llama*", "acme/llama"),
            ("*/*", "acme/llama"),
            ("a*b*c", "aXbYbZc"),
            ("**", "acme/llama/v3"),
            ("acme/**", "acme/a/b/c"),
            ("**/weights", "acme/llama/weights"),
            ("acme/**/weights", "acme/x/weights"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("acme/*", "acme/llama/v3"),
            ("acme/*", "acme"),
            ("acme/*", "evil/acme/llama"),
            ("acme/*", "acme-evil/llama"),
            ("*", "acme/llama"),
            ("acme/llama", "acme/llama2"),
            ("acme/llama", "Acme/llama"),
            ("acme/**", "acme"),
            ("acme/**/weights", "acme/weights"),
            ("a*b", "a/b"),
            ("acme.*", "acmeXllama"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |one: &str, other: &str| one.parse::<Pattern>().unwrap().covers(&other.parse().unwrap());
        for (wide, narrow) in
            [("**", "acme/*"), ("acme/*", "acme/llama-*"), ("acme/**", "acme/*/x"), ("a*", "ab*"), ("x", "x"), ("*/b", "a*/b")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
            assert!(wide == narrow || !covers(narrow, wide), "{narrow} {wide}");
        }
        assert!(!covers("*", "**") && !covers("acme/*", "*/llama") && !covers("*/llama", "acme/*"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "./a", "a\\b", "a\nb", "a\0"] {
            assert!(text.parse::<Pattern>().is_err() && text.parse::<ArtifactName>().is_err(), "{text:?}");
        }
        assert!("a*".parse::<ArtifactName>().is_err());
        assert!("a**".parse::<Pattern>().is_err());
        assert!("a".repeat(513).parse::<Pattern>().is_err());
    }
}
