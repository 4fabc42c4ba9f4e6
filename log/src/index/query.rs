//! What is searched for: named values, all of which an entry must have, and a span of time.
//!
//! ```text
//! digest    sha256:HEX, sha384:HEX, sha512:HEX, or the bare digits
//! identity  a subject alternative name; `*` stands for anything
//! issuer    an OIDC issuer; `*` stands for anything
//! serial    a certificate's serial number, HEX, with or without colons
//! key       SHA-256 of a SubjectPublicKeyInfo, sha256:HEX or the bare digits
//! kind      `hashedrekord`, or with its version `hashedrekord 0.0.2`; `unknown`
//! since     RFC 3339 time or date, itself included
//! until     the same
//! ```
//! Refused: other names, a name twice, values that are not as above, nothing at all.

use super::facts::{Facts, UNKNOWN, folded, without_zeros};
use countersign_verify::encoding::from_hex;
use countersign_verify::entry::Kind;
use countersign_verify::key::HashAlgorithm;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Longest value, in bytes. Names in certificates of public CAs are below 500; ours.
const MAX_VALUE: usize = 2048;
/// Most stars of a pattern; each lets a name be tried at each of its places.
const MAX_STARS: usize = 8;

/// What an entry is found by, those that name the fewest entries first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Field {
    Digest,
    Serial,
    Key,
    Identity,
    Issuer,
    Kind,
}

impl Field {
    const ALL: [(Self, &str); 6] = [
        (Self::Digest, "digest"),
        (Self::Serial, "serial"),
        (Self::Key, "key"),
        (Self::Identity, "identity"),
        (Self::Issuer, "issuer"),
        (Self::Kind, "kind"),
    ];

    /// The byte and the value.
    pub(super) fn key(self, value: &[u8]) -> Vec<u8> {
        let tag = match self {
            Self::Digest => b'd',
            Self::Serial => b's',
            Self::Key => b'k',
            Self::Identity => b'i',
            Self::Issuer => b'o',
            Self::Kind => b't',
        };
        [&[tag], value].concat()
    }
}

/// One value that an entry must have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Criterion {
    field: Field,
    value: Value,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Value {
    Exact(Vec<u8>),
    /// Text with stars, folded.
    Pattern(String),
}

/// Which keys meet a criterion.
pub(super) enum Keys {
    /// This one.
    One(Vec<u8>),
    /// Those from the first to before the second whose text SQLite's GLOB matches.
    Range(Vec<u8>, Vec<u8>, String),
}

impl Criterion {
    pub(super) fn keys(&self) -> Keys {
        match &self.value {
            Value::Exact(value) => Keys::One(self.field.key(value)),
            Value::Pattern(pattern) => {
                let prefix = pattern.split('*').next().unwrap_or_default();
                let first = self.field.key(prefix.as_bytes());
                let mut end = first.clone();
                // Neither the field's byte nor UTF-8 has a byte 255.
                *end.last_mut().expect("a key begins with its field") += 1;
                let glob = pattern.replace('[', "[[]").replace('?', "[?]");
                Keys::Range(first, end, glob)
            }
        }
    }

    fn matches(&self, key: &[u8]) -> bool {
        match &self.value {
            Value::Exact(value) => key == self.field.key(value),
            Value::Pattern(pattern) => {
                let text = key.strip_prefix(&self.field.key(b"")[..]);
                let text = text.and_then(|text| std::str::from_utf8(text).ok());
                text.is_some_and(|text| matches(pattern, text))
            }
        }
    }
}

/// Whether `pattern`, in which `*` stands for anything, matches all of `text`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(place) = text.find(part) else { return false };
        text = &text[place + part.len()..];
    }
    text.ends_with(last)
}

/// A search.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Those first that name the fewest entries.
    criteria: Vec<Criterion>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Query {
    /// Adds one named value.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let shortened = || value.chars().take(100).collect::<String>();
        if value.is_empty() || value.len() > MAX_VALUE {
            return Err(Error::Length { name: name.chars().take(100).collect(), limit: MAX_VALUE });
        }
        if let Some((time, name, last)) = match name {
            "since" => Some((&mut self.since, "since", false)),
            "until" => Some((&mut self.until, "until", true)),
            _ => None,
        } {
            let second = second(value, last);
            let second = second.ok_or_else(|| Error::Time { name, found: shortened() })?;
            return match time.replace(second) {
                None => Ok(()),
                Some(_) => Err(Error::Repeated { name }),
            };
        }
        let field = Field::ALL.into_iter().find(|(_, known)| *known == name);
        let (field, name) =
            field.ok_or_else(|| Error::Unknown { name: name.chars().take(100).collect() })?;
        let hex = |expected| {
            let found = shortened();
            move |bytes: Option<Vec<u8>>| {
                bytes.map(Value::Exact).ok_or(Error::Hex { name, expected, found })
            }
        };
        let value = match field {
            Field::Digest => {
                hex("sha256:, sha384: or sha512: and as many hexadecimal digits")(digest(value))?
            }
            Field::Key => hex("sha256: and 64 hexadecimal digits")(
                digest(value).filter(|digest| digest.len() == 32),
            )?,
            Field::Serial => hex("hexadecimal digits")(serial(value))?,
            Field::Identity | Field::Issuer => text(name, value)?,
            Field::Kind => kind(value).ok_or_else(|| Error::Kind { found: shortened() })?,
        };
        if self.criteria.iter().any(|criterion| criterion.field == field) {
            return Err(Error::Repeated { name });
        }
        self.criteria.push(Criterion { field, value });
        self.criteria.sort_unstable();
        Ok(())
    }

    /// Adds a value to the letter, of a name that may be there already.
    pub(crate) fn also(&mut self, field: Field, value: Vec<u8>) {
        self.criteria.push(Criterion { field, value: Value::Exact(value) });
        self.criteria.sort_unstable();
    }

    /// The same, once it is known that something is searched for.
    ///
    /// # Errors
    /// When there is no value and no time.
    pub fn checked(self) -> Result<Self, Error> {
        if self.criteria.is_empty() && self.since.is_none() && self.until.is_none() {
            return Err(Error::Nothing);
        }
        Ok(self)
    }

    /// Whether an entry has all that is searched for.
    #[must_use]
    pub fn matches(&self, facts: &Facts) -> bool {
        let keys = facts.keys();
        let met = |criterion: &Criterion| keys.iter().any(|key| criterion.matches(key));
        let time = |time: Option<i64>, within: &dyn Fn(i64) -> bool| time.is_some_and(within);
        self.criteria.iter().all(met)
            && self.since.is_none_or(|since| time(facts.time, &|time| time >= since))
            && self.until.is_none_or(|until| time(facts.time, &|time| time <= until))
    }

    /// The criterion that the search goes along, and those that must be met beside it. Every entry has a
    /// kind, so a search by time alone goes along all of them.
    pub(super) fn plan(&self) -> (Criterion, &[Criterion]) {
        match self.criteria.split_first() {
            Some((first, rest)) => (first.clone(), rest),
            None => (Criterion { field: Field::Kind, value: Value::Pattern("*".to_owned()) }, &[]),
        }
    }

    /// First and last second, since the epoch.
    pub(super) const fn times(&self) -> (Option<i64>, Option<i64>) {
        (self.since, self.until)
    }
}

/// A digest of a known length, after its name or by itself.
fn digest(text: &str) -> Option<Vec<u8>> {
    let (name, digits) = match text.split_once(':') {
        Some((name, digits)) => (Some(name), digits),
        None => (None, text),
    };
    let digest = from_hex(digits).ok()?;
    let fits = |hash: HashAlgorithm| {
        name.is_none_or(|name| name == hash.short_name()) && digest.len() == hash.digest_len()
    };
    HashAlgorithm::ALL.into_iter().any(fits).then_some(digest)
}

fn serial(text: &str) -> Option<Vec<u8>> {
    let digits = text.replace(':', "");
    let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
    Some(without_zeros(&from_hex(&digits).ok()?).to_vec())
}

fn text(name: &'static str, text: &str) -> Result<Value, Error> {
    let folded = folded(text);
    match folded.matches('*').count() {
        0 => Ok(Value::Exact(folded.into_bytes())),
        1..=MAX_STARS => Ok(Value::Pattern(folded)),
        found => Err(Error::Stars { name, limit: MAX_STARS, found }),
    }
}

fn kind(text: &str) -> Option<Value> {
    let names = || Kind::ALL.into_iter().map(Kind::name).chain([UNKNOWN]);
    if names().any(|name| name == text) {
        return Some(Value::Exact(text.as_bytes().to_vec()));
    }
    let pattern = format!("{text} *");
    names().any(|name| matches(&pattern, name)).then_some(Value::Pattern(pattern))
}

/// A time, or a day's first or last second, UTC.
fn second(text: &str, last: bool) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let date: Date = text.parse().ok()?;
    let midnight = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    Some(if last { midnight + 24 * 60 * 60 - 1 } else { midnight })
}

/// Why nothing is searched for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such name.
    #[error(
        "{name:?} is nothing to search by; expected digest, identity, issuer, serial, key, kind, since or until"
    )]
    Unknown {
        /// Its beginning.
        name: String,
    },
    /// A name twice.
    #[error("{name} is given twice")]
    Repeated {
        /// The name.
        name: &'static str,
    },
    /// An empty value, or a long one.
    #[error("{name}: expected 1 to {limit} bytes")]
    Length {
        /// The name.
        name: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// A value that is no number of the right length.
    #[error("{name}: expected {expected}, found {found:?}")]
    Hex {
        /// The name.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// Its beginning.
        found: String,
    },
    /// Not a time.
    #[error("{name}: expected a time such as 2026-11-23T12:00:00Z, or a date, found {found:?}")]
    Time {
        /// The name.
        name: &'static str,
        /// Its beginning.
        found: String,
    },
    /// A kind that no log here has.
    #[error(
        "kind: expected hashedrekord, dsse or intoto, with or without a version, found {found:?}"
    )]
    Kind {
        /// Its beginning.
        found: String,
    },
    /// A pattern that would take long.
    #[error("{name}: at most {limit} stars, found {found}")]
    Stars {
        /// The name.
        name: &'static str,
        /// Stars allowed.
        limit: usize,
        /// Stars found.
        found: usize,
    },
    /// Nothing to search for.
    #[error("expected one of digest, identity, issuer, serial, key, kind, since or until")]
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_all_else_for_itself() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*b", "ab", true),
            ("*b", "aba", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*@acme.com", "x@acme.com", true),
            ("*@acme.com", "x@acme.com.evil", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("a?[b]", "a?[b]", true),
            ("a?", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_cannot_be_searched_for_is_refused_by_name() {
        let refusal = |pairs: &[(&str, &str)]| {
            let mut query = Query::default();
            let set = pairs.iter().try_for_each(|(name, value)| query.set(name, value));
            set.and_then(|()| query.checked().map(drop)).unwrap_err().to_string()
        };
        let long = "x".repeat(2049);
        let sixty = "00".repeat(30);
        for (pairs, expected) in [
            (&[][..], "expected one of digest"),
            (&[("sha256", "00")], "\"sha256\" is nothing"),
            (&[("digest", &sixty)], "digest: expected sha256:"),
            (&[("digest", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")], "digest: expected"),
            (
                &[(
                    "digest",
                    "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                )],
                "digest: expected",
            ),
            (&[("key", "xx")], "key: expected sha256: and 64"),
            (&[("serial", "1g")], "serial: expected hexadecimal"),
            (&[("identity", "")], "identity: expected 1 to 2048 bytes"),
            (&[("identity", &long)], "identity: expected 1 to 2048 bytes"),
            (&[("identity", "*********")], "identity: at most 8 stars, found 9"),
            (&[("kind", "rpm")], "found \"rpm\""),
            (&[("since", "yesterday")], "since: expected a time"),
            (&[("until", "2026-13-01")], "until: expected a time"),
            (&[("until", "2026-11-23"), ("until", "2026-11-23")], "until is given twice"),
            (&[("identity", "a"), ("identity", "b")], "identity is given twice"),
        ] {
            let found = refusal(pairs);
            assert!(found.contains(expected), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn a_day_is_whole_and_a_serial_number_has_many_spellings() {
        assert_eq!(second("1970-01-02", false), Some(86_400));
        assert_eq!(second("1970-01-01", true), Some(86_399));
        assert_eq!(second("1970-01-01T00:00:07Z", true), Some(7));
        for spelling in ["0a:bc", "ABC", "000abc", "a:bc"] {
            assert_eq!(serial(spelling), Some(vec![0x0a, 0xbc]), "{spelling}");
        }
    }
}
