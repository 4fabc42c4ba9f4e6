//! Container images: one verb a file.

mod copy;
mod inspect;
mod modify;
mod sign;
mod verify;

pub(super) use copy::{copy, load, save};
pub(super) use inspect::{download, tree};
pub(super) use modify::{attach, clean};
pub(super) use sign::{attest, sign};
pub(super) use verify::{attestations, signatures};

use crate::args::Timeout;
use crate::args::image::{Image, Registry};
use crate::failure::Failure;
use crate::trust::read_bounded;
use countersign_client::http;
use countersign_client::oci::{
    Credential, Error, MAX_CHILDREN, Mirrors, Options, Reference, Registries, Repository, Stored,
    Where,
};
use std::collections::BTreeMap;

/// Largest file of authorities that is read, bytes: the system's own has 220 KiB.
const MAX_AUTHORITIES: usize = 4 << 20;
/// How many images are worked on at the same time. More than a registry likes from one client help nobody.
const AT_ONCE: usize = 16;

/// The registries of a command, by its flags.
fn registries(args: &Registry, timeout: Timeout) -> Result<Registries, Failure> {
    let credential = match (&args.registry_username, &args.registry_password, &args.registry_token)
    {
        (Some(user), Some(password), _) => {
            Some(Credential::Password(user.clone(), password.clone().into()))
        }
        // Set to nothing, as by a CI secret that does not exist, is not set.
        (_, _, Some(token)) if !token.is_empty() => Some(Credential::Bearer(token.clone().into())),
        _ => None,
    };
    let authorities = args.registry_cacert.as_deref();
    let authorities = authorities.map(|path| read_bounded(path, MAX_AUTHORITIES)).transpose()?;
    let mirrors = Mirrors::parse(args.registry_mirror.iter().map(String::as_str));
    let mirrors = mirrors.map_err(failure)?;
    let waiting = |error: &http::Error| super::sign::waiting(error);
    let (plain_http, budget) = (args.allow_http_registry, timeout.timeout);
    Ok(Registries::new(Options { credential, plain_http, authorities, mirrors, budget, waiting }))
}

/// One image, and where it is.
fn image(args: &Image) -> Result<(Reference, Repository), Failure> {
    let reference = Reference::parse(&args.image).map_err(failure)?;
    let repository = registries(&args.registry, args.timeout)?.repository(&reference);
    Ok((reference, repository.map_err(failure)?))
}

/// The manifests of an index, and of indexes in it, each with its name. It ends, because no index can hold
/// itself, and is bounded by the most manifests of one index.
async fn parts(
    place: &Where,
    reference: &Reference,
    index: &Stored,
) -> Result<Vec<(Reference, Stored)>, Error> {
    let named = |parent: &Stored| {
        let children = parent.manifest.manifests().iter().filter(|child| child.is_manifest());
        children.map(|child| child.digest.clone()).collect::<Vec<_>>()
    };
    let mut waiting = named(index);
    let mut parts: Vec<(Reference, Stored)> = Vec::new();
    while let Some(digest) = waiting.pop() {
        if parts.len() == MAX_CHILDREN {
            let what = format!("manifests below {reference}");
            return Err(Error::TooMany { what, limit: MAX_CHILDREN });
        }
        let stored = place.manifest(&digest).await?;
        waiting.extend(named(&stored));
        parts.push((reference.sibling(&digest), stored));
    }
    Ok(parts)
}

/// `NAME=VALUE`, as often as given.
fn annotations(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    given
        .iter()
        .map(|text| {
            let missing = || Failure::unclear(format!("-a {text}: expected NAME=VALUE"));
            pair(text).ok_or_else(missing)
        })
        .collect()
}

/// What can be done about each way in which a registry fails.
fn failure(error: Error) -> Failure {
    let message = error.to_string();
    let hint = match &error {
        Error::NotFound { .. } => "is the name right, and was it pushed?",
        Error::Denied { .. } => {
            "does it exist, and may you do that? `docker login` or `podman login` keep credentials; or set COUNTERSIGN_REGISTRY_USERNAME and COUNTERSIGN_REGISTRY_PASSWORD"
        }
        Error::Credentials { .. } => "`docker login` or `podman login` write it anew",
        Error::Digest { .. } | Error::Size { .. } => {
            "the registry is broken, or somebody changed what it stores: do not use the image"
        }
        Error::Redirect { .. } => "tell whoever runs the registry",
        Error::Contended { .. } => "try again when fewer sign the same image",
        Error::Http(http::Error::Status { status: 405, .. }) => "this registry does not allow it",
        Error::Http(http::Error::Unreachable { .. } | http::Error::Certificate { .. }) => {
            "is it there? A registry without TLS beyond this machine needs --allow-http-registry, one with its own authority --registry-cacert"
        }
        _ => "",
    };
    let failure = if error.is_finding() { Failure::no(message) } else { Failure::unclear(message) };
    if hint.is_empty() { failure } else { failure.hint(hint) }
}
