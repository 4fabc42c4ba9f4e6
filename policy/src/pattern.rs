//! Regular expressions over names.

use regex::{Regex, RegexBuilder};

/// A compiled pattern may take this many bytes: its states are bounded, and so the time to match.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression (the syntax of RE2 and Go, without look-around) that must match a whole name.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    whole: Regex,
    within: Regex,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// When it is empty, no regular expression, or too large when compiled.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        let compile = |text: &str| {
            let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
            regex.map_err(|error| Error::Syntax { message: error.to_string() })
        };
        // Alone first, lest a stray parenthesis close the group around it.
        let within = compile(text)?;
        let whole = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Self { text: text.to_owned(), whole, within })
    }

    /// The expression as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.whole.is_match(name)
    }

    /// Whether some part of `name` matches, as a search would have it.
    pub(crate) fn matches_within(&self, name: &str) -> bool {
        self.within.is_match(name)
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Would match nothing but the empty name, which nobody has.
    #[error("expected a regular expression, found an empty text")]
    Empty,
    /// Not a regular expression, or one that grows too large.
    #[error("not a regular expression: {message}")]
    Syntax {
        /// What the compiler met, and where.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name_or_not_at_all() {
        let pattern = Pattern::new("https://github.com/acme/.*|b").unwrap();
        for (name, expected) in [
            ("https://github.com/acme/widget", true),
            ("b", true),
            ("xb", false),
            ("bx", false),
            ("xhttps://github.com/acme/widget", false),
            ("https://github.com/acme/a\nb", false),
        ] {
            assert_eq!(pattern.matches(name), expected, "{name:?}");
        }
        assert!(Pattern::new("^a$").unwrap().matches("a"), "own anchors do no harm");
        assert!(!Pattern::new("(?m)^a$").unwrap().matches("a\nb"), "nor do lines");
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        assert_eq!(Pattern::new("").unwrap_err(), Error::Empty);
        for text in ["(", "a)|(b", r"(?=x)", "(a{1000}){1000}", r"\w{500}{500}"] {
            assert!(matches!(Pattern::new(text), Err(Error::Syntax { .. })), "{text}");
        }
    }
}
