//! Patterns of issuer URLs, as Fulcio's `meta-issuers` have them.
//!
//! All of a pattern stands for itself but `*`, which stands for one or more letters, digits, `-` and `_`: never
//! for a dot, a slash, or anything else that would reach another host or path. A pattern matches a whole
//! URL. The end of its host is written out, so that nobody can register a host that it matches.

use url::{Host, Url};

/// Longest URL that is compared, in bytes; real ones are below 200.
const MAX_URL: usize = 1024;

/// A checked pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    text: String,
    steps: Vec<Step>,
}

/// What stands at one place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Byte(u8),
    /// One of the class of `*`.
    One,
    /// Any number of them.
    Many,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it has no `*`, or would match URLs of hosts that it does not name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.contains('*') {
            return Err(PatternError::Plain);
        }
        if text.contains("**") || text.len() > MAX_URL || text.contains(['?', '#', '@']) {
            return Err(PatternError::Url);
        }
        // An example of what it matches must be a URL, and what it would be without rewriting.
        let example = text.replace('*', "x");
        let url = Url::parse(&example).map_err(|_| PatternError::Url)?;
        let (_, written) = text.split_once("://").ok_or(PatternError::Url)?;
        let written = written.split('/').next().unwrap_or_default();
        let (name, port) = written.split_once(':').unwrap_or((written, ""));
        let host = match url.host() {
            Some(Host::Domain(host)) if url.scheme() == "https" => host.to_owned(),
            // As for other issuers, nobody can stand between on loopback.
            Some(Host::Ipv4(host)) if url.scheme() == "http" && host.is_loopback() => {
                host.to_string()
            }
            _ => return Err(PatternError::Url),
        };
        if host != name.replace('*', "x") {
            return Err(PatternError::Url);
        }
        let end: Vec<&str> = name.rsplit('.').take(2).collect();
        if end.len() < 2 || end.concat().contains('*') || port.contains('*') {
            return Err(PatternError::Host);
        }
        let steps = text.bytes().flat_map(|byte| match byte {
            b'*' => [Some(Step::One), Some(Step::Many)],
            byte => [Some(Step::Byte(byte)), None],
        });
        Ok(Self { text: text.to_owned(), steps: steps.flatten().collect() })
    }

    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of `url`.
    #[must_use]
    pub fn matches(&self, url: &str) -> bool {
        let prefix = self.text.split('*').next().unwrap_or_default();
        let literal = || url.bytes().map(Step::Byte).collect::<Vec<_>>();
        url.len() <= MAX_URL && url.starts_with(prefix) && meet(&self.steps, &literal())
    }

    /// Whether some URL is matched by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        meet(&self.steps, &other.steps)
    }
}

/// Whether some text can be read along both. Each pair of places is looked at once.
fn meet(a: &[Step], b: &[Step]) -> bool {
    let width = b.len() + 1;
    let mut seen = vec![false; (a.len() + 1) * width];
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        if std::mem::replace(&mut seen[i * width + j], true) {
            continue;
        }
        let (here, there) = (a.get(i), b.get(j));
        if here.is_none() && there.is_none() {
            return true;
        }
        if here == Some(&Step::Many) {
            open.push((i + 1, j));
        }
        if there == Some(&Step::Many) {
            open.push((i, j + 1));
        }
        if let (Some(&here), Some(&there)) = (here, there)
            && agree(here, there)
        {
            let after = |step, place| if step == Step::Many { place } else { place + 1 };
            open.push((after(here, i), after(there, j)));
        }
    }
    false
}

const fn agree(a: Step, b: Step) -> bool {
    match (a, b) {
        (Step::Byte(a), Step::Byte(b)) => a == b,
        (Step::Byte(byte), _) | (_, Step::Byte(byte)) => {
            byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
        }
        _ => true,
    }
}

/// Why a pattern is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing to match.
    #[error("expected a pattern with \"*\"; an issuer without one belongs under oidc-issuers")]
    Plain,
    /// Not a URL.
    #[error("expected an https URL in lower case, without query, user or \"**\"")]
    Url,
    /// A host that anybody could have.
    #[error(
        "expected the last two labels of the host and the port without \"*\": anybody could have such a host"
    )]
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_piece_of_a_label_or_path_and_never_for_more() {
        let pattern = Pattern::parse("https://oidc.eks.*.amazonaws.com/id/*").unwrap();
        for good in [
            "https://oidc.eks.eu-west-1.amazonaws.com/id/B02C93B6A2D30341AD01E1B6D48164CB",
            "https://oidc.eks._.amazonaws.com/id/0",
        ] {
            assert!(pattern.matches(good), "{good}");
        }
        for near_miss in [
            "https://oidc.eks.eu-west-1.amazonaws.com/id/",
            "https://oidc.eks..amazonaws.com/id/A",
            "https://oidc.eks.a.b.amazonaws.com/id/A",
            "https://oidc.eks.a/x.amazonaws.com/id/A",
            "https://oidc.eks.a%2f.amazonaws.com/id/A",
            "https://oidc.eks.a@b.amazonaws.com/id/A",
            "https://oidc.eks.evil.example?.amazonaws.com/id/A",
            "https://oidc.eks.evil#.amazonaws.com/id/A",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/A/",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/A/B",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/A\n",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/\u{e4}",
            "http://oidc.eks.eu-west-1.amazonaws.com/id/A",
            "HTTPS://oidc.eks.eu-west-1.amazonaws.com/id/A",
            " https://oidc.eks.eu-west-1.amazonaws.com/id/A",
            "http://inside?x=https://oidc.eks.eu-west-1.amazonaws.com/id/A",
            "https://oidc.eks.*.amazonaws.com/id/*",
            "",
        ] {
            assert!(!pattern.matches(near_miss), "{near_miss}");
        }
        assert!(
            !pattern
                .matches(&format!("https://oidc.eks.a.amazonaws.com/id/{}", "A".repeat(MAX_URL)))
        );
    }

    #[test]
    fn a_pattern_names_its_host() {
        for good in ["https://*.a.example/b", "https://a.example/*", "https://a-*.b.example:8443/*"]
        {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for (near_miss, expected) in [
            ("https://a.example", PatternError::Plain),
            ("http://a.example/*", PatternError::Url),
            ("https://a.example/**", PatternError::Url),
            ("https://A.example/*", PatternError::Url),
            ("https://a.example/*?b", PatternError::Url),
            ("https://a@b.example/*", PatternError::Url),
            ("https://127.0.0.1/*", PatternError::Url),
            ("*", PatternError::Url),
            ("*://a.example/", PatternError::Url),
            ("https://*", PatternError::Host),
            ("https://localhost/*", PatternError::Host),
            ("https://*.com/", PatternError::Host),
            ("https://a.*/", PatternError::Host),
            ("https://a.b-*.com/", PatternError::Host),
        ] {
            assert_eq!(Pattern::parse(near_miss), Err(expected), "{near_miss}");
        }
    }

    #[test]
    fn patterns_overlap_when_one_url_fits_both() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        for (a, b) in [
            ("https://a.example/*", "https://a.example/*"),
            ("https://a.example/*", "https://a.example/x*"),
            ("https://a.example/*-b", "https://a.example/a-*"),
            ("https://*.a.example/x", "https://b.a.example/*"),
        ] {
            assert!(overlap(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("https://a.example/*", "https://a.example/*/*"),
            ("https://a.example/a*", "https://a.example/b*"),
            ("https://a.example/*a", "https://a.example/*b"),
            ("https://*.a.example/", "https://*.b.a.example/"),
            ("https://a.example/a*", "https://a.example/*.a"),
        ] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }
}
