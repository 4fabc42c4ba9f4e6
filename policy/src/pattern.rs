//! Patterns over names. Each matches a whole name or not at all.
//!
//! In a policy a plain text is meant to the letter, unless it has a `*` in it. `*` stands for anything but
//! `/`, `@` and `:`, so it stays within a segment, a tag or an address. `**` stands for whole segments
//! and must be one itself: `a/**` has everything below `a`, not `a`, and `a**`, which would have
//! `a-evil`, is refused. Regular expressions stand behind the word `matches`. Policies and claims are
//! printable ASCII: what only looks like a name is none.

use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

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
        Self::compiled(text, false)
    }

    /// The same, for what is compared without case.
    pub(crate) fn of_any_case(text: &str) -> Result<Self, Error> {
        Self::compiled(text, true)
    }

    fn compiled(text: &str, any_case: bool) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        let compile = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            let regex = builder.size_limit(MAX_COMPILED).case_insensitive(any_case).build();
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

/// A text with `*` in it, or to the letter.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Glob {
    text: String,
    /// `None` for `**`.
    segments: Vec<Option<String>>,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, not printable ASCII, or has `**` within a segment.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
            return Err(Error::NotAscii { found });
        }
        let mut segments: Vec<Option<String>> = Vec::new();
        for segment in text.split('/') {
            match segment {
                "**" if segments.last() == Some(&None) => return Err(Error::Stars),
                "**" => segments.push(None),
                _ if segment.contains("**") => return Err(Error::Stars),
                _ => segments.push(Some(segment.to_owned())),
            }
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the first `*`, and what from there on.
    pub(crate) fn halves(&self) -> (&str, &str) {
        self.text.split_at(self.text.find('*').unwrap_or(self.text.len()))
    }

    /// Whether it has no `*`.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.text.contains('*')
    }

    /// Whether all of `name` matches. At the end and alone `**` has one segment at least, elsewhere it
    /// may have none.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.is_empty() || !is_ascii(name) {
            return false;
        }
        if self.is_exact() {
            return self.text == name;
        }
        let (mut place, mut names) = (0, name.split('/'));
        // Where the last `**` stands, and what comes after the segments that it has.
        let mut retry: Option<(usize, std::str::Split<'_, char>)> = None;
        loop {
            let mut rest = names.clone();
            let next = rest.next();
            match (self.segments.get(place), next) {
                (Some(None), next) if place + 1 == self.segments.len() => return next.is_some(),
                (Some(None), _) => {
                    retry = Some((place, names.clone()));
                    place += 1;
                    continue;
                }
                (Some(Some(pattern)), Some(name)) if segment_matches(pattern, name) => {
                    (place, names) = (place + 1, rest);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((stars, after)) = &mut retry else { return false };
            if after.next().is_none() {
                return false;
            }
            (place, names) = (*stars + 1, after.clone());
        }
    }

    /// The same with the first `segments` segments in lower case; up to the first `**`, which stands for
    /// an unknown number of them.
    pub(crate) fn lowered(&self, segments: usize) -> Self {
        let fixed = self.segments.iter().take_while(|segment| segment.is_some()).count();
        match segments.min(fixed) {
            0 => self.clone(),
            segments => Self::new(&lower_segments(&self.text, segments)).expect("read before"),
        }
    }
}

/// A `*` alone stands for a segment, and an empty one is none.
fn segment_matches(pattern: &str, name: &str) -> bool {
    (pattern != "*" || !name.is_empty()) && within(pattern, name)
}

/// Whether `*` in `pattern` can stand for parts of `name`, both without `/`.
fn within(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut place, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(place), name.get(at)) {
            (Some(b'*'), _) => {
                retry = Some((place, at));
                place += 1;
            }
            (Some(wanted), Some(found)) if wanted == found => (place, at) = (place + 1, at + 1),
            (None, None) => return true,
            _ => match retry {
                Some((star, next)) if next < name.len() && !matches!(name[next], b'@' | b':') => {
                    retry = Some((star, next + 1));
                    (place, at) = (star + 1, next + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Printable ASCII: only this is compared.
pub(crate) fn is_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// The first `segments` segments in lower case.
pub(crate) fn lower_segments(text: &str, segments: usize) -> Cow<'_, str> {
    let mut slashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
    let end = slashes.nth(segments.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let (first, rest) = text.split_at(end);
    match lower(first) {
        Cow::Borrowed(_) => text.into(),
        Cow::Owned(first) => (first + rest).into(),
    }
}

/// The text in lower case.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => text.to_ascii_lowercase().into(),
        false => text.into(),
    }
}

/// The parts of an image reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageName {
    /// Host, port if there is one, and repository; of Docker Hub `docker.io/library/…` and so on.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// Reads an image reference into its one name: Docker Hub has many hosts, and leaves `library/` out.
///
/// # Errors
/// When it is no image reference.
pub fn image_name(text: &str) -> Result<ImageName, Error> {
    let bad = || Error::Image { found: text.chars().take(100).collect() };
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) if digest.contains(':') => (name, Some(digest.to_owned())),
        Some(_) => return Err(bad()),
        None => (text, None),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[last..].rfind(':') {
        Some(at) => (&name[..last + at], Some(name[last + at + 1..].to_owned())),
        None => (name, None),
    };
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_./:".contains(&byte);
    let segments = |name: &str| name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if is_host(host) => (host_name(host).ok_or_else(bad)?, rest),
        _ => ("docker.io".to_owned(), name),
    };
    if !segments(rest)
        || !rest.bytes().all(known)
        || rest.contains(':')
        || tag.as_deref() == Some("")
    {
        return Err(bad());
    }
    Ok(ImageName { repository: repository(&host, rest), tag, digest })
}

/// The one name of what is called `rest` at `host`, both in lower case; of patterns, too.
pub(crate) fn repository(host: &str, rest: &str) -> String {
    match without_https(host) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            let library = if rest.contains('/') || rest == "**" { "" } else { "library/" };
            format!("docker.io/{library}{rest}")
        }
        host => format!("{host}/{rest}"),
    }
}

/// A host as it is compared: without a port that all clients have anyway. Other spellings of one host, with a
/// dot at its end or a port that begins with 0, are none.
fn host_name(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (&*host, None),
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port_fits = |port: &str| digits(port) && !port.starts_with('0') && !port.is_empty();
    let fits = !name.is_empty() && !name.ends_with('.') && port.is_none_or(port_fits);
    fits.then(|| without_https(&host).to_owned())
}

/// A host, or a pattern for one, without the port that is meant where there is none.
fn without_https(host: &str) -> &str {
    host.strip_suffix(":443").filter(|host| is_host(host)).unwrap_or(host)
}

/// Whether the first part of a reference names a host, by the rule that all clients have.
pub(crate) fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Would match nothing but the empty name, which nobody has.
    #[error("expected a regular expression, found an empty text")]
    Empty,
    /// Policies are ASCII, lest a name only look like another.
    #[error("expected printable ASCII, found {found:?}")]
    NotAscii {
        /// The first other character.
        found: char,
    },
    /// `**` within a segment, or twice.
    #[error("** must be a whole segment: a/** has everything below a, a** would have a-evil, too")]
    Stars,
    /// Not an image reference.
    #[error("expected an image reference such as registry.example/acme/app:v1, found {found:?}")]
    Image {
        /// Its beginning.
        found: String,
    },
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
    fn a_star_stays_within_its_segment_tag_or_address_and_two_have_whole_segments() {
        for (pattern, name, expected) in [
            ("acme/*", "acme/pay", true),
            ("acme/*", "acme/pay/x", false),
            ("acme/*", "acme/", false),
            ("*@acme.example", "ana@acme.example", true),
            ("*@acme.example", "a@evil.example@acme.example", false),
            ("*@acme.example", "ana@acme.example.evil.io", false),
            ("v*", "v1:latest", false),
            ("refs/tags/v*", "refs/tags/v1.2.0", true),
            ("refs/tags/v*", "refs/heads/v1", false),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c@d:e", true),
            ("a/**", "a-evil/b", false),
            ("**", "a", true),
            ("firmware/**/*.bin", "firmware/x.bin", true),
            ("firmware/**/*.bin", "firmware/a/b/x.bin", true),
            ("firmware/**/*.bin", "firmware/a/b/x.bin.sig", false),
            ("**/b/**/d", "a/b/b/c/d", true),
            ("**/b/**/d", "a/c/d", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("ab", "ab", true),
            ("*", "", false),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn prefix_traps_and_homographs_cannot_be_written() {
        for text in ["a**", "**a", "a/**b", "a/**/**"] {
            assert_eq!(Glob::new(text), Err(Error::Stars), "{text}");
        }
        assert_eq!(Glob::new("аcme"), Err(Error::NotAscii { found: 'а' }), "Cyrillic");
        assert!(!Glob::new("*").unwrap().matches("аcme"), "nor do they match");
    }

    #[test]
    fn docker_hub_has_one_name_and_ports_are_kept() {
        for (text, repository, tag, digest) in [
            ("busybox", "docker.io/library/busybox", None, None),
            ("acme/pay:v1", "docker.io/acme/pay", Some("v1"), None),
            ("index.docker.io/acme/pay", "docker.io/acme/pay", None, None),
            (
                "Registry.Example:5000/a/b:v1@sha256:aa",
                "registry.example:5000/a/b",
                Some("v1"),
                Some("sha256:aa"),
            ),
            ("localhost/a", "localhost/a", None, None),
            ("r.example:443/a", "r.example/a", None, None),
            ("Docker.io:443/pay", "docker.io/library/pay", None, None),
            ("[::1]:5000/a", "[::1]:5000/a", None, None),
        ] {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let expected = ImageName {
                repository: repository.to_owned(),
                tag: owned(tag),
                digest: owned(digest),
            };
            assert_eq!(image_name(text), Ok(expected));
        }
        for text in [
            "",
            "a//b",
            "r.example/../x",
            "r.example/A",
            "r.example/a:",
            "r.example/a@b",
            "r.example/a%2fb",
            "r.example/a/",
            "r.example./a",
            "r.example.:443/a",
            "r.example:/a",
            "r.example:0443/a",
            "r.example:+443/a",
            ":443/a",
        ] {
            assert!(matches!(image_name(text), Err(Error::Image { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        assert_eq!(Pattern::new("").unwrap_err(), Error::Empty);
        for text in ["(", "a)|(b", r"(?=x)", "(a{1000}){1000}", r"\w{500}{500}"] {
            assert!(matches!(Pattern::new(text), Err(Error::Syntax { .. })), "{text}");
        }
    }
}
