//! Mirrors: registries from which the content of another is read first.
//!
//! Only what is named by its digest is read from a mirror, for the digest protects it. What tags mean and
//! what refers to an image the registry itself is asked: a mirror that lags or keeps no referrers would make
//! a signed image look unsigned. What a mirror does not have, or has wrongly, is read from the registry. A mirror is
//! asked once and not waited for; one that does not answer is left alone from then on.

use super::Error;
use super::reference::Reference;
use std::collections::BTreeMap;

/// Which registry has a mirror where.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// By the registry's canonical name: a repository below which its own are.
    each: BTreeMap<String, Reference>,
}

impl Mirrors {
    /// Reads `HOST=MIRROR`, where the mirror is a host and perhaps a path below which the registry's
    /// repositories are, as Harbor has it: `docker.io=harbor.example.com/hub`.
    ///
    /// # Errors
    /// When one of them is no registry.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let read = |text: &str| {
            let malformed = || Error::Reference {
                found: text.to_owned(),
                expected: "a registry and its mirror, HOST=MIRROR or HOST=MIRROR/PATH",
            };
            let (host, mirror) = text.split_once('=').ok_or_else(malformed)?;
            let below = |place: &str| {
                let reference = Reference::parse(&format!("{place}/{PROBE}")).ok()?;
                // Otherwise it is a path of Docker Hub.
                let first = place.split('/').next()?;
                (reference.is_of(first) && reference.tag() == Some("latest")).then_some(reference)
            };
            let host = below(host).filter(|_| !host.contains('/')).ok_or_else(malformed)?;
            let mirror = below(mirror).ok_or_else(malformed)?;
            Ok::<_, Error>((host.registry().to_owned(), mirror))
        };
        Ok(Self { each: texts.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Where what `reference` names is mirrored.
    pub(super) fn of(&self, reference: &Reference) -> Option<Reference> {
        let below = self.each.get(reference.registry())?;
        let path = below.repository().strip_suffix(PROBE).unwrap_or_default();
        let name = format!("{}/{path}{}", below.registry(), reference.repository());
        Reference::parse(&name).ok()
    }
}

/// Stands for any repository.
const PROBE: &str = "x";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_the_repositories_of_a_registry_below_a_path() {
        let mirrors = ["docker.io=harbor.example.com/hub", "r.example.com=127.0.0.1:5000"];
        let mirrors = Mirrors::parse(mirrors).unwrap();
        for (name, expected) in [
            ("alpine", Some("harbor.example.com/hub/library/alpine")),
            ("r.example.com/a/b:v1", Some("127.0.0.1:5000/a/b")),
            ("r.example.com:443/a", None),
            ("harbor.example.com/hub/a", None),
        ] {
            let mirror = mirrors.of(&Reference::parse(name).unwrap());
            assert_eq!(mirror.map(|mirror| mirror.name()).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_names_no_registry_is_refused() {
        for text in [
            "r.example.com",
            "=m.example.com",
            "r.example.com=",
            "r.example.com/a=m.example.com",
            "r=m.example.com",
            "r.example.com=m",
            "r.example.com=https://m.example.com",
            "r.example.com=m.example.com/UPPER",
            "r.example.com=m.example.com/a:b",
        ] {
            assert!(Mirrors::parse([text]).is_err(), "{text}");
        }
    }
}
