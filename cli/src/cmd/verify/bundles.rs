//! Where bundles come from: beside each file, one for all, or a collection with one a line.

use crate::failure::Failure;
use crate::trust::read_bounded;
use countersign_verify::bundle::{self, Content};
use countersign_verify::certificate::{Certificate, Identity};
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::statement::Statement;
use countersign_verify::{Artifact, Bundle};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Largest collection that is read, bytes: thousands of attestations.
const MAX_COLLECTION: usize = 512 << 20;

/// The bundles that may speak of a file.
pub(crate) struct Bundles {
    /// Each with its name; one of a collection has its line's number.
    each: Vec<(String, Result<Bundle, bundle::Error>)>,
    /// A collection speaks of many files; a lone bundle is for the file it was given for.
    collection: Option<String>,
}

impl Bundles {
    /// The bundle or collection at `path`. A lone file that is no bundle is a finding; a collection with
    /// such a line is unreadable, because it cannot be told which file the line was about.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            let bundle = Bundle::parse(&read_bounded(path, MAX_BUNDLE)?);
            return Ok(Self { each: vec![(name, bundle)], collection: None });
        }
        let bytes = read_bounded(path, MAX_COLLECTION)?;
        let lines = bytes.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let mut each = Vec::new();
        for (place, line) in lines {
            let name = format!("{name}:{}", place + 1);
            match Bundle::parse(line.trim_ascii()) {
                Err(error) => return Err(Failure::unclear(format!("{name}: {error}"))),
                bundle => each.push((name, bundle)),
            }
        }
        if each.is_empty() {
            return Err(Failure::unclear(format!("{name} has no bundle in it")));
        }
        Ok(Self { each, collection: Some(name) })
    }

    /// The bundle beside `file`, by the names that clients write.
    pub(super) fn beside(file: &Path) -> Result<Self, Failure> {
        let named = |suffix: &str| {
            let mut name = file.to_owned().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        if file == Path::new("-") || crate::artifact::digest_in(file).is_some() {
            return Err(Failure::unclear("there is no name to look for the bundle beside")
                .hint("give --bundle FILE"));
        }
        let names = [named(".sigstore.json"), named(".sigstore")];
        match names.iter().find(|name| name.exists()) {
            Some(name) => Self::read(name),
            None => {
                Err(Failure::unclear(format!("no bundle: {} does not exist", names[0].display()))
                    .hint(
                        "give --bundle FILE, or --checksums FILE if a signed list has its digest",
                    ))
            }
        }
    }

    /// All bundles and collections beside `file`: for a policy each may be evidence. Their names begin with
    /// the file's, `app.sigstore.json` and `app.sbom.sigstore.json` both.
    pub(crate) fn all_beside(file: &Path) -> Result<Self, Failure> {
        const SUFFIXES: [&str; 3] = [".sigstore.json", ".sigstore", ".sigstore.jsonl"];
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(name) =
            name.filter(|_| crate::artifact::digest_in(file).is_none() && file.exists())
        else {
            return Self::beside(file);
        };
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new("."));
        let failed = |error| Failure::file("read", folder, &error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let found = entry.map_err(failed)?.file_name();
            let rest = found.to_str().and_then(|found| found.strip_prefix(name));
            if rest.is_some_and(|rest| {
                rest.starts_with('.') && SUFFIXES.iter().any(|suffix| rest.ends_with(suffix))
            }) {
                paths.push(file.with_file_name(found));
            }
        }
        paths.sort();
        let mut all = Self { each: Vec::new(), collection: None };
        for path in paths {
            let read = Self::read(&path)?;
            all.collection = all.collection.or(read.collection);
            all.each.extend(read.each);
        }
        Ok(all)
    }

    /// The hashes under which a file's digest may be needed.
    pub(crate) fn hashes(&self) -> BTreeSet<HashAlgorithm> {
        let bundles = self.each.iter().filter_map(|(_, bundle)| bundle.as_ref().ok());
        let hashes: BTreeSet<_> = bundles.flat_map(Bundle::artifact_hashes).collect();
        if hashes.is_empty() { BTreeSet::from([HashAlgorithm::Sha256]) } else { hashes }
    }

    /// Those that speak of `artifact`: of a collection the ones that name its digest.
    pub(crate) fn about<'a>(
        &'a self,
        artifact: &'a Artifact,
    ) -> impl Iterator<Item = (&'a str, &'a Result<Bundle, bundle::Error>)> {
        let named = |bundle: &Result<Bundle, _>| {
            bundle.as_ref().is_ok_and(|bundle| speaks_of(bundle, artifact))
        };
        let each = self.each.iter().map(|(name, bundle)| (name.as_str(), bundle));
        each.filter(move |(_, bundle)| self.collection.is_none() || named(bundle))
    }

    /// The collection's name, if it is one.
    pub(super) fn collection(&self) -> Option<&str> {
        self.collection.as_deref()
    }

    /// Whom the first bundle claims to be by; not verified.
    pub(super) fn claimed_identity(&self) -> Option<Identity> {
        let (_, bundle) = self.each.first()?;
        claimed_identity(bundle.as_ref().ok()?)
    }

    /// What the first bundle claims to attest; not verified.
    pub(super) fn claimed_predicate(&self) -> Option<String> {
        let (_, bundle) = self.each.first()?;
        match bundle.as_ref().ok()?.content() {
            Content::Dsse(envelope) => {
                let statement = Statement::parse(&envelope.payload).ok()?;
                Some(statement.predicate_type().to_owned())
            }
            Content::Message(_) => None,
        }
    }
}

/// Whom a bundle's certificate names; not verified.
pub(crate) fn claimed_identity(bundle: &Bundle) -> Option<Identity> {
    Certificate::parse(bundle.certificate()?).ok()?.identity().ok()
}

fn speaks_of(bundle: &Bundle, artifact: &Artifact) -> bool {
    match bundle.content() {
        // What names no digest its signature decides.
        Content::Message(message) => {
            message.digest.is_empty() || artifact.digest(message.hash) == Some(&message.digest)
        }
        Content::Dsse(envelope) => Statement::parse(&envelope.payload).is_ok_and(|statement| {
            artifact.digests().any(|(hash, digest)| statement.subject(hash, digest).is_some())
        }),
    }
}
