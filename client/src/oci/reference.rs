//! Names of images: registry, repository, and a tag or a digest or both.
//!
//! The grammar of the distribution specification, with Docker's defaults: without a registry it is Docker
//! Hub, whose repositories of one component are below `library/`; with neither tag nor digest the tag is
//! `latest`. The canonical name spells all of that out, as cosign does.

use super::Error;
use aws_lc_rs::digest::{Context, SHA256, SHA512};
use countersign_verify::Artifact;
use countersign_verify::encoding::{from_hex, hex};
use countersign_verify::key::HashAlgorithm;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// Docker Hub, by its canonical name.
pub(super) const DOCKER_HUB: &str = "index.docker.io";
/// Other names of it.
const DOCKER_HUB_NAMES: [&str; 3] = [DOCKER_HUB, "docker.io", "registry-1.docker.io"];
/// Longest repository name, in bytes (distribution specification: host and name below 256).
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes (the same).
const MAX_TAG: usize = 128;

/// An image's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as people write it; `oci://` before it, as Helm has it, is passed over.
    ///
    /// # Errors
    /// When it is not of the grammar.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = |expected| Error::Reference { found: text.to_owned(), expected };
        let name = text.strip_prefix("oci://").unwrap_or(text);
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => {
                let digest = Digest::parse(digest);
                (name, Some(digest.ok_or(malformed("a digest such as sha256:HEX after the @"))?))
            }
            None => (name, None),
        };
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[path..].split_once(':') {
            // A registry's port, not a tag: localhost:5000
            Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
            None => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(malformed("a tag of letters, digits, '_', '.' and '-' after the colon"));
        }
        let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            _ => (DOCKER_HUB, name.to_owned()),
        };
        let docker_hub = DOCKER_HUB_NAMES.contains(&registry);
        let (registry, repository) = match docker_hub {
            true if !repository.contains('/') => (DOCKER_HUB, format!("library/{repository}")),
            true => (DOCKER_HUB, repository),
            false => (registry, repository),
        };
        if !is_registry_name(registry) {
            return Err(malformed("a registry such as registry.example.com:5000"));
        }
        if !is_repository(&repository) {
            return Err(malformed(
                "a repository of lower-case letters and digits, divided by '/', '.', '_' or '-'",
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        let tag = tag.map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Host, and port if there is one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. Where there is a digest, too, the digest decides.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether it is of the registry that goes by `host`.
    pub(super) fn is_of(&self, host: &str) -> bool {
        self.registry == host || self.registry == DOCKER_HUB && DOCKER_HUB_NAMES.contains(&host)
    }

    /// Registry and repository: what a legacy signature calls the image.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same, and exactly this digest.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self.clone() }
    }

    /// Another manifest of the same repository.
    #[must_use]
    pub fn sibling(&self, digest: &Digest) -> Self {
        Self { tag: None, ..self.at(digest) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_registry_name(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let number = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = |host: &str| {
        let label = |label: &str| {
            let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        host.split('.').all(label)
    };
    number && address.map_or_else(|| named(host), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
}

/// `component ("/" component)*`, a component being runs of letters and digits divided by `.`, `_`, `__` or
/// any number of `-`.
fn is_repository(text: &str) -> bool {
    let component = |component: &str| {
        let mut divider = String::from("/"); // none may come first
        for c in component.chars() {
            match c {
                'a'..='z' | '0'..='9' => divider.clear(),
                '.' | '_' | '-' => {
                    divider.push(c);
                    let fits = matches!(divider.as_str(), "." | "_" | "__")
                        || divider.chars().all(|c| c == '-');
                    if !fits {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        divider.is_empty()
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(component)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| word(byte) || byte == b'.' || byte == b'-';
    let first = text.bytes().next().is_some_and(word);
    first && text.len() <= MAX_TAG && text.bytes().all(rest)
}

/// The digest of a manifest or blob: `sha256:` or `sha512:` and lower-case hexadecimal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, digits) = text.split_once(':')?;
        let hash = Self::hash_named(algorithm)?;
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (lower && digits.len() == 2 * hash.digest_len()).then(|| Self(text.to_owned()))
    }

    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::sha256(&HashAlgorithm::Sha256.digest(bytes))
    }

    /// SHA-256, computed already.
    pub(super) fn sha256(digest: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(digest)))
    }

    fn hash_named(algorithm: &str) -> Option<HashAlgorithm> {
        match algorithm {
            "sha256" => Some(HashAlgorithm::Sha256),
            "sha512" => Some(HashAlgorithm::Sha512),
            _ => None,
        }
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> HashAlgorithm {
        let (algorithm, _) = self.0.split_once(':').expect("parsed");
        Self::hash_named(algorithm).expect("parsed")
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').expect("parsed").1
    }

    /// As a whole, with the algorithm's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which tags speak of it: `sha256-HEX`.
    #[must_use]
    pub fn tag(&self) -> String {
        self.0.replace(':', "-")
    }

    /// What verification calls it.
    #[must_use]
    pub fn artifact(&self) -> Artifact {
        let bytes = from_hex(self.hex()).expect("parsed");
        Artifact::from_digest(self.hash(), &bytes).expect("parsed")
    }

    /// A computation of such a digest.
    pub(super) fn context(&self) -> Context {
        Context::new(if self.hash() == HashAlgorithm::Sha512 { &SHA512 } else { &SHA256 })
    }

    /// Whether `context`, as [`context`](Self::context) began it, has come to this digest.
    pub(super) fn is(&self, context: Context) -> bool {
        hex(context.finish().as_ref()) == self.hex()
    }

    /// Whether it is that of `bytes`.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        hex(&self.hash().digest(bytes)) == self.hex()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("expected a digest: sha256: or sha512: and lower-case hexadecimal")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_and_cosign_read_them() {
        let hex = "ab".repeat(32);
        for (text, canonical) in [
            ("alpine", "index.docker.io/library/alpine:latest".to_owned()),
            ("alpine:3", "index.docker.io/library/alpine:3".to_owned()),
            ("acme/app", "index.docker.io/acme/app:latest".to_owned()),
            ("docker.io/alpine", "index.docker.io/library/alpine:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1".to_owned()),
            ("ghcr.io/acme/app", "ghcr.io/acme/app:latest".to_owned()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
            ("oci://example.com/charts/app:1.0", "example.com/charts/app:1.0".to_owned()),
            (&format!("a/b@sha256:{hex}"), format!("index.docker.io/a/b@sha256:{hex}")),
            (&format!("x.y/a:v@sha256:{hex}"), format!("x.y/a:v@sha256:{hex}")),
        ] {
            let found = Reference::parse(text).unwrap();
            assert_eq!(found.to_string(), canonical, "{text}");
            assert_eq!(Reference::parse(&canonical).unwrap(), found, "canonical");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let (hex, upper) = ("ab".repeat(32), "AB".repeat(32));
        for text in [
            "",
            "A",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:-v",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "a@sha256:ab",
            "ex_ample.com/a",
            "a.b:99999/c",
            "a.b:/c",
            "[::g]:1/a",
            &format!("a@sha256:{upper}"),
            &format!("a@md5:{hex}"),
            &format!("a@{hex}"),
            &format!("a@sha512:{hex}"),
            &format!("a:{}", "t".repeat(129)),
            &"a".repeat(256),
        ] {
            assert!(matches!(Reference::parse(text), Err(Error::Reference { .. })), "{text:?}");
        }
    }
}
