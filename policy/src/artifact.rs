//! Which artifacts a rule is about, and where they are used: the classes under `what`, the contexts
//! under `where`.

use crate::facts::{Artifact, Context, Evidence, Kind};
use crate::pattern::{Glob, image_name, is_host, repository};
use crate::role::is_digest;
use crate::yaml::{Node, Place, Reader, Value};
use std::collections::BTreeSet;

/// Artifacts under one name.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) selectors: Vec<Selector>,
    /// Names that are taken out of it.
    except: Vec<Glob>,
    /// Those among them that are names of images, as these are compared.
    except_images: Vec<Glob>,
    /// Names, and where what is signed under them is found, too.
    mirrors: Vec<(Glob, Glob)>,
}

/// A way to be of a class.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    /// Host and repository, and the tag that the signer must have written.
    Image(Glob, Option<Glob>),
    /// A file's name, and its media type.
    Blob(Glob, Option<String>),
    /// A package, a Git repository, a model, by name.
    Named(Kind, Glob),
    Digest(String),
}

/// Whether something is so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    Yes,
    No,
    Unknown,
}

impl Class {
    const KEYS: [&str; 8] =
        ["images", "blobs", "packages", "git", "models", "digests", "except", "also-at"];

    pub(crate) fn read(reader: &mut Reader, name: &str, node: &Node) -> Option<Self> {
        let what = format!("class {name:?}");
        let map = reader.map(node, &what, &Self::KEYS)?;
        let images = |reader: &mut Reader, key: &str| -> Vec<(Place, Selector)> {
            let Some(node) = map.get(key) else { return Vec::new() };
            let nodes = reader.list(node, "image names").iter();
            let selector = |node: &Node| {
                let (glob, tag) = read_image(reader, node, key)?;
                Some((node.place, Selector::Image(glob, tag)))
            };
            nodes.filter_map(selector).collect()
        };
        let (originals, copies) = (images(reader, "images"), images(reader, "also-at"));
        let mirrors = read_mirrors(reader, &originals, &copies);
        let mut selectors: Vec<_> =
            originals.into_iter().chain(copies).map(|(_, selector)| selector).collect();
        if let Some(node) = map.get("blobs") {
            for node in reader.list(node, "file names") {
                selectors.extend(read_blob(reader, node));
            }
        }
        let named = [("packages", Kind::Package), ("git", Kind::Git), ("models", Kind::Model)];
        for (key, kind) in named {
            let Some(node) = map.get(key) else { continue };
            for node in reader.list(node, key) {
                selectors
                    .extend(read_glob(reader, node, key).map(|glob| Selector::Named(kind, glob)));
            }
        }
        if let Some(node) = map.get("digests") {
            for node in reader.list(node, "digests") {
                selectors.extend(read_digest(reader, node).map(Selector::Digest));
            }
        }
        let (mut except, mut except_images) = (Vec::new(), Vec::new());
        let image = |selector: &Selector| matches!(selector, Selector::Image(..));
        let digest = |selector: &Selector| matches!(selector, Selector::Digest(_));
        let (some, all) = (selectors.iter().any(image), selectors.iter().all(image));
        let strict = some && selectors.iter().all(|one| image(one) || digest(one));
        let nodes = map.get("except").map(|node| reader.list(node, "names")).unwrap_or_default();
        for node in nodes {
            // What is taken out is spelled as what is in. Where a class has other kinds, too, a name may be theirs.
            let mut aside = Reader::default();
            let host = |text: &str| text.split_once('/').is_some_and(|(host, _)| is_host(host));
            let image = strict || some && matches!(&node.value, Value::Text(text) if host(text));
            let (images, others) =
                if image { (&mut *reader, &mut aside) } else { (&mut aside, &mut *reader) };
            if some || selectors.iter().any(digest) {
                except_images.extend(read_except(images, node));
            }
            if !all {
                except.extend(read_glob(others, node, "except"));
            }
        }
        if selectors.is_empty() && map.entries().all(|(key, _)| key.text == "except") {
            return reader.wrong(node.place, format!("{what} selects nothing"));
        }
        let (name, place) = (name.to_owned(), node.place);
        Some(Self { name, place, selectors, except, except_images, mirrors })
    }

    /// Whether a name of that kind is taken out of it.
    fn leaves_out(&self, kind: Kind, name: &str) -> bool {
        let except = if kind == Kind::Image { &self.except_images } else { &self.except };
        except.iter().any(|glob| glob.matches(name))
    }

    /// Whether what is signed under the name `signed` is found at `at`, too, which is a mirror of it: what the
    /// stars stand for is the same under both names.
    pub(crate) fn mirrors(&self, signed: &str, at: &str) -> bool {
        let out = self.leaves_out(Kind::Image, signed) || self.leaves_out(Kind::Image, at);
        !out && self.mirrors.iter().any(|(name, copy)| {
            let same = signed.strip_prefix(name.halves().0) == at.strip_prefix(copy.halves().0);
            same && name.matches(signed) && copy.matches(at)
        })
    }

    /// Whether it chooses by the tag that a signer wrote, which is a promise and no fact.
    pub(crate) fn has_tags(&self) -> bool {
        self.selectors.iter().any(|selector| matches!(selector, Selector::Image(_, Some(_))))
    }

    /// Whether it has artifacts by their digests.
    pub(crate) fn has_digests(&self) -> bool {
        self.selectors.iter().any(|selector| matches!(selector, Selector::Digest(_)))
    }

    /// Whether `artifact` would be of it with some tag.
    pub(crate) fn may_have(&self, artifact: &Artifact) -> bool {
        let out = self.leaves_out(artifact.kind, &artifact.name);
        !out && self.selectors.iter().any(|selector| {
            matches!(selector, Selector::Image(glob, Some(_)) if glob.matches(&artifact.name))
        })
    }

    /// Whether `artifact` is of it; `evidence` is what a rule about signatures looks at.
    pub(crate) fn has(&self, artifact: Option<&Artifact>, evidence: Option<&Evidence>) -> Known {
        let Some(artifact) = artifact else { return Known::Unknown };
        if !artifact.name.is_empty() && self.leaves_out(artifact.kind, &artifact.name) {
            return Known::No;
        }
        let mut found = Known::No;
        for selector in &self.selectors {
            match selector.takes(artifact, evidence) {
                Known::Yes => return Known::Yes,
                Known::Unknown => found = Known::Unknown,
                Known::No => {}
            }
        }
        found
    }
}

impl Selector {
    fn takes(&self, artifact: &Artifact, evidence: Option<&Evidence>) -> Known {
        let when = |holds| if holds { Known::Yes } else { Known::No };
        match self {
            Self::Digest(_) if !artifact.has_known_digest() => Known::Unknown,
            Self::Digest(digest) => when(*digest == artifact.digest),
            // A digest alone is of no class that is chosen by name.
            _ if artifact.name.is_empty() => Known::No,
            Self::Image(glob, tag) => {
                let named = artifact.kind == Kind::Image && glob.matches(&artifact.name);
                when(named && tag.as_ref().is_none_or(|tag| promised(tag, artifact, evidence)))
            }
            Self::Blob(glob, media_type) => {
                let same = media_type.is_none() || *media_type == artifact.media_type;
                when(artifact.kind == Kind::Blob && same && glob.matches(&artifact.name))
            }
            Self::Named(kind, glob) => when(artifact.kind == *kind && glob.matches(&artifact.name)),
        }
    }
}

/// Whether the signer wrote a tag that fits, for this repository. What tag the registry has now says
/// nothing about what was signed.
fn promised(tag: &Glob, artifact: &Artifact, evidence: Option<&Evidence>) -> bool {
    let signed = evidence.and_then(|evidence| evidence.signed_name.as_deref());
    let signed = signed.and_then(|name| image_name(name).ok());
    signed.is_some_and(|name| {
        name.repository == artifact.name && name.tag.is_some_and(|found| tag.matches(&found))
    })
}

fn read_glob(reader: &mut Reader, node: &Node, what: &str) -> Option<Glob> {
    let text = reader.text(node, "a name or pattern")?;
    // Repositories and models may be named by a URL.
    let (_, name) = text.split_once("://").unwrap_or(("", text));
    if text.trim() != text {
        return reader.wrong(node.place, format!("{what}: {text:?} begins or ends with a space"));
    }
    if let Some(segment) = name.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
        let message = format!("{what}: {text:?} has the segment {segment:?}, and no name has it");
        return reader.wrong(node.place, message);
    }
    match Glob::new(text) {
        Ok(glob) => Some(glob),
        Err(error) => reader.wrong(node.place, format!("{what}: {error}")),
    }
}

/// Which name of `images` each one of `also-at` mirrors: the one that is the same from the first star on, or
/// has none either. If there were none, or two, what was signed for one name would come in under another.
fn read_mirrors(
    reader: &mut Reader,
    images: &[(Place, Selector)],
    copies: &[(Place, Selector)],
) -> Vec<(Glob, Glob)> {
    let glob = |selector: &Selector| match selector {
        Selector::Image(glob, _) => Some(glob.clone()),
        _ => None,
    };
    let mut mirrors = Vec::new();
    for (place, copy) in copies {
        let Some(copy) = glob(copy) else { continue };
        let alike = |name: &Glob| name.halves().1 == copy.halves().1;
        // One name may stand there with several tags.
        let names = images.iter().filter_map(|(_, name)| glob(name)).filter(alike);
        let mut names = names.collect::<BTreeSet<_>>().into_iter();
        let (first, second) = (names.next(), names.next());
        let copy_text = copy.as_str();
        match (first, second) {
            (Some(name), None) => mirrors.push((name, copy)),
            (Some(one), Some(two)) => {
                let (one, two) = (one.as_str(), two.as_str());
                let message = format!("{copy_text:?} mirrors both {one:?} and {two:?}");
                reader.suggest::<()>(*place, message, "write a class for each of them");
            }
            (None, _) => {
                let message =
                    format!("{copy_text:?} mirrors nothing: no name under images has its stars");
                reader.suggest::<()>(*place, message, "write both with the same stars");
            }
        }
    }
    mirrors
}

/// Why no image has a name that this pattern matches, and what to write instead: host and repository are
/// those of [`image_name`], with `*`.
fn misfit(host: &str, rest: &str) -> Option<(&'static str, String)> {
    let bad = |text: &str, also: &[u8], upper: bool| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits =
            |byte: u8| plain(byte) || also.contains(&byte) || (upper && byte.is_ascii_uppercase());
        !text.bytes().all(fits)
    };
    let anywhere = "leave the scheme and spaces away: registry.example/acme/**".to_owned();
    if host.contains(' ') || rest.contains(' ') || host.ends_with(':') || bad(host, b"-.:*", true) {
        return Some(("it does not begin with a registry's host", anywhere));
    }
    if rest.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = format!("write {host}/{}", rest.to_ascii_lowercase());
        return Some(("repositories are in lower case", lower));
    }
    if rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Some(("a segment is empty, . or ..", "leave it away".to_owned()));
    }
    bad(rest, b"-_./*", false).then(|| {
        (
            "repositories have a-z 0-9 . _ - alone",
            "patterns have * and **, and no ? or [ab]".to_owned(),
        )
    })
}

pub(crate) fn read_digest(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node, "a digest")?;
    if is_digest(text) {
        return Some(text.to_owned());
    }
    reader.wrong(
        node.place,
        format!("expected sha256: and 64 lower-case hexadecimal digits, found {text:?}"),
    )
}

/// Hosts of images are never left out, and Docker Hub has one name, so that a pattern and a name that
/// look the same are the same: host and repository, and the tag. `what` is the key that has them.
pub(crate) fn read_image(
    reader: &mut Reader,
    node: &Node,
    what: &str,
) -> Option<(Glob, Option<Glob>)> {
    let text = reader.text(node, "an image name or pattern")?;
    let last = text.rfind('/').map_or(text.len(), |at| at + 1);
    let (name, tag) = match text[last..].split_once(':') {
        Some((name, tag)) => (&text[..last + name.len()], Some(tag)),
        None => (text, None),
    };
    if name.contains('@') {
        return reader.suggest(
            node.place,
            format!("{what}: a pattern ends before the digest"),
            "name the repository; for a digest alone use digests",
        );
    }
    let fit = match name.split_once('/') {
        Some((host, rest)) => misfit(host, rest),
        None => misfit("", name),
    };
    if let Some((why, suggestion)) = fit {
        let message = format!("{what}: {text:?} matches no image: {why}");
        return reader.suggest(node.place, message, suggestion);
    }
    let lower = name.to_ascii_lowercase();
    let (host, rest) = lower.split_once('/').unwrap_or((&lower, ""));
    let name = match (host, rest) {
        ("**", _) => lower,
        (host, rest) if is_host(host) && !rest.is_empty() => repository(host, rest),
        _ => {
            let library = if rest.is_empty() { "library/" } else { "" };
            let message = format!("{what}: {text:?} names no host");
            let suggestion =
                format!("write docker.io/{library}{lower}, or the registry's host before it");
            return reader.suggest(node.place, message, suggestion);
        }
    };
    let glob = |reader: &mut Reader, text: &str| match Glob::new(text) {
        Ok(glob) => Some(glob),
        Err(error) => reader.wrong(node.place, format!("{what}: {error}")),
    };
    let tag = match tag {
        Some(tag) => Some(glob(reader, tag)?),
        None => None,
    };
    Some((glob(reader, &name)?, tag))
}

/// An image that is taken out of a class, whatever its tag.
fn read_except(reader: &mut Reader, node: &Node) -> Option<Glob> {
    match read_image(reader, node, "except")? {
        (glob, None) => Some(glob),
        (_, Some(_)) => reader.suggest(
            node.place,
            "except: a pattern ends before the tag",
            "name the repository, which takes out all of its tags",
        ),
    }
}

fn read_blob(reader: &mut Reader, node: &Node) -> Option<Selector> {
    if let Value::Text(_) = &node.value {
        return Some(Selector::Blob(read_glob(reader, node, "blobs")?, None));
    }
    let map = reader.map(node, "blobs", &["name", "media-type"])?;
    let name = reader.need(map, "blobs", "name")?;
    let name = read_glob(reader, name, "blobs")?;
    let media_type = map.get("media-type").and_then(|node| reader.text(node, "a media type"));
    Some(Selector::Blob(name, media_type.map(str::to_owned)))
}

/// A place where artifacts are used.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) clusters: Vec<Glob>,
    pub(crate) namespaces: Namespaces,
}

#[derive(Clone, Debug)]
pub(crate) enum Namespaces {
    Any,
    In(Vec<Glob>),
    NotIn(Vec<Glob>),
    Label(String, String),
}

impl Site {
    pub(crate) fn read(reader: &mut Reader, name: &str, node: &Node) -> Option<Self> {
        let what = format!("context {name:?}");
        let map = reader.map(node, &what, &["clusters", "namespaces"])?;
        let globs = |reader: &mut Reader, node: &Node, what: &str| -> Vec<Glob> {
            let nodes = reader.list(node, what);
            nodes.iter().filter_map(|node| read_glob(reader, node, what)).collect()
        };
        let clusters = map.get("clusters").map(|node| globs(reader, node, "clusters"));
        let namespaces = match map.get("namespaces") {
            None => Namespaces::Any,
            Some(node) if matches!(node.value, Value::Map(_)) => {
                let inner = reader.map(node, "namespaces", &["not", "label"])?;
                match (inner.get("not"), inner.get("label")) {
                    (Some(not), None) => Namespaces::NotIn(globs(reader, not, "namespaces")),
                    (None, Some(label)) => {
                        let text = reader.text(label, "a label")?;
                        let Some((key, value)) = text.split_once('=') else {
                            return reader.wrong(label.place, "label: expected KEY=VALUE");
                        };
                        Namespaces::Label(key.to_owned(), value.to_owned())
                    }
                    _ => {
                        return reader
                            .wrong(node.place, "namespaces: expected a list, not or label");
                    }
                }
            }
            Some(node) => Namespaces::In(globs(reader, node, "namespaces")),
        };
        let clusters = clusters.unwrap_or_default();
        if clusters.is_empty() && matches!(namespaces, Namespaces::Any) {
            return reader
                .wrong(node.place, format!("{what} is everywhere: name clusters or namespaces"));
        }
        Some(Self { name: name.to_owned(), place: node.place, clusters, namespaces })
    }

    /// Whether `context` may be this place: what is not known of a place counts as if it were this one.
    pub(crate) fn has(&self, context: &Context) -> bool {
        if let Some(name) = &context.name {
            return *name == self.name;
        }
        if context.is_nowhere() {
            return true;
        }
        let any = |globs: &[Glob], name: &str| globs.iter().any(|glob| glob.matches(name));
        let cluster = self.clusters.is_empty()
            || context.cluster.as_ref().is_none_or(|name| any(&self.clusters, name));
        let namespace = context.namespace.as_ref();
        cluster
            && match &self.namespaces {
                Namespaces::Any => true,
                Namespaces::In(globs) => namespace.is_none_or(|name| any(globs, name)),
                Namespaces::NotIn(globs) => namespace.is_none_or(|name| !any(globs, name)),
                Namespaces::Label(key, value) => context.labels.get(key) == Some(value),
            }
    }
}
