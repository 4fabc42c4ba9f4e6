//! Policies from files, with the trust roots that they name.

use crate::args::Trust as TrustArgs;
use crate::artifact::digest_in;
use crate::failure::Failure;
use crate::output::visible;
use crate::trust::{Choice, read_bounded};
use countersign_policy::yaml::MAX_TEXT;
use countersign_policy::{Artifact, Pem, Policy, Trust};
use countersign_verify::TrustedRoot;
use countersign_verify::key::PublicKey;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use std::path::{Path, PathBuf};
use url::Url;

/// Largest key file that is read, bytes: an ML-DSA-87 key in PEM has below 4 KiB.
const MAX_KEY: usize = 16 << 10;

/// A trust root that a policy names, beside our own.
pub(crate) enum Named {
    Root(Box<TrustedRoot>),
    Key {
        key: Box<PublicKey>,
        /// Whether its signatures must be in a log.
        logged: bool,
    },
}

/// Reads one policy, ours or ClusterImagePolicies as they are. All of its mistakes are told, each with its
/// place.
pub(crate) fn read(path: &Path) -> Result<Policy, Failure> {
    read_text(path, read_bounded(path, MAX_TEXT)?)
}

/// The same of a file at `path` whose bytes have been read.
pub(crate) fn read_text(path: &Path, bytes: Vec<u8>) -> Result<Policy, Failure> {
    let (policy, notes) = parse(path, bytes)?;
    for note in notes {
        eprintln!("note: {}: {}", path.display(), visible(&note));
    }
    Ok(policy)
}

/// The same, with what is to be said of it.
fn parse(path: &Path, bytes: Vec<u8>) -> Result<(Policy, Vec<String>), Failure> {
    let name = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::unclear(format!("{name}: expected YAML in UTF-8")))?;
    Policy::parse_any(&text).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| format!("{name}:{mistake}")).collect();
        let found = match lines.len() {
            1 => "a mistake".to_owned(),
            number => format!("{number} mistakes"),
        };
        Failure::unclear(format!("{name} has {found}, and is not taken\n{}", lines.join("\n")))
    })
}

/// Reads the first policy, and those that it includes. The mistakes of one hide no other's.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Policy, Failure> {
    let (mut policies, mut broken) = (Vec::new(), Vec::new());
    for path in paths {
        match read(path) {
            Ok(policy) => policies.push(policy),
            Err(failure) => broken.push(failure),
        }
    }
    match broken.len() {
        0 => {}
        1 => return Err(broken.remove(0)),
        _ => {
            let texts: Vec<_> = broken.iter().map(Failure::text).collect();
            return Err(Failure::unclear(texts.join("\n")));
        }
    }
    let mut policies = policies.into_iter();
    let first = policies.next().ok_or_else(|| Failure::unclear("no policy is given"))?;
    let whole = first.with_included(policies.collect());
    whole.map_err(|error| Failure::unclear(error.to_string()))
}

/// The files of trust that the policy at `path` names; none if it cannot be read.
pub(crate) fn trust_files(path: &Path) -> Vec<PathBuf> {
    let policy = read_bounded(path, MAX_TEXT).and_then(|bytes| parse(path, bytes));
    let Ok((policy, _)) = policy else { return Vec::new() };
    let named = policy.trust.values().filter_map(|trust| match trust {
        Trust::File(file) | Trust::Key { pem: Pem::File(file), .. } => Some(beside(path, file)),
        Trust::Key { .. } | Trust::Tuf { .. } => None,
    });
    named.collect()
}

fn beside(path: &Path, file: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(file)
}

/// The trust roots that `policy`, read from `path`, names; files stand beside it. An instance is one that
/// `trust init` keeps, whose first root was compared then.
pub(crate) fn trust(policy: &Policy, path: &Path) -> Result<Vec<(String, Named)>, Failure> {
    let mut roots = Vec::new();
    for (name, trust) in &policy.trust {
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::unclear(format!("trust root {name:?} of the policy: {error}"))
        };
        match trust {
            Trust::File(file) => {
                let bytes = read_bounded(&beside(path, file), MAX_TRUSTED_ROOT)?;
                let root = TrustedRoot::parse(&bytes).map_err(|error| unusable(&error))?;
                roots.push((name.clone(), Named::Root(Box::new(root))));
            }
            Trust::Key { pem, logged } => {
                let pem = match pem {
                    Pem::Here(pem) => pem.clone(),
                    Pem::File(file) => {
                        String::from_utf8(read_bounded(&beside(path, file), MAX_KEY)?)
                            .unwrap_or_default()
                    }
                };
                let key = PublicKey::from_pem(&pem).map_err(|error| unusable(&error))?;
                roots.push((name.clone(), Named::Key { key: Box::new(key), logged: *logged }));
            }
            Trust::Tuf { url, root } => {
                let instance = Some(Url::parse(url).map_err(|error| unusable(&error))?);
                let flags = TrustArgs { trust_config: None, trusted_root: Vec::new(), instance };
                match Choice::of(&flags)? {
                    stored @ Choice::Stored(_) => {
                        let loaded = stored.load()?.roots.into_iter();
                        let named = |root| (name.clone(), Named::Root(Box::new(root)));
                        roots.extend(loaded.map(named));
                    }
                    _ => {
                        return Err(unusable(&"it is not kept on this machine")
                            .hint(format!("countersign trust init {url} --fingerprint {root}")));
                    }
                }
            }
        }
    }
    Ok(roots)
}

/// A file as policies know it. Its name is what the command line says, and nothing proves it; what comes by
/// standard input or as a digest has none.
pub(crate) fn file(path: &Path, name: Option<&str>) -> Artifact {
    if let Some(name) = name {
        return Artifact::named(name);
    }
    let unnamed = path == Path::new("-") || digest_in(path).is_some();
    let name = match path.file_name() {
        _ if unnamed => String::new(),
        Some(name) if path.is_absolute() => name.to_string_lossy().into_owned(),
        _ => path.to_string_lossy().trim_start_matches("./").to_owned(),
    };
    Artifact { name, ..Artifact::default() }
}
