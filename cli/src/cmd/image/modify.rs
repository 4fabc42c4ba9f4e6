//! `attach` and `clean`: bundles made elsewhere come, and what refers to an image goes.

use super::{failure, image};
use crate::args::image::{Attach, Clean, Kind};
use crate::failure::Failure;
use crate::output;
use crate::runtime::block_on;
use crate::trust::read_bounded;
use countersign_client::oci::{self, Attachment, Digest, Error, Repository, Stored, Suffix, Where};
use countersign_verify::Bundle;
use countersign_verify::bundle::Content;
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::statement::{IMAGE_SIGNATURE, Statement};
use jiff::Timestamp;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// `attach`
pub(crate) fn attach(args: &Attach) -> Result<ExitCode, Failure> {
    let (reference, repository) = image(&args.image)?;
    let place = Where::Registry(repository.clone());
    let Stored { descriptor, .. } = block_on(place.resolve(&reference))?.map_err(failure)?;
    let bundles: Vec<_> = args
        .bundle
        .iter()
        .map(|path| bundle_about(path, &descriptor.digest))
        .collect::<Result<_, _>>()?;
    let mut text = format!("{}\n", reference.at(&descriptor.digest));
    for bundle in &bundles {
        let stored = oci::attach(&repository, &descriptor, bundle, Timestamp::now());
        let stored = block_on(stored)?.map_err(failure)?;
        text.push_str(&format!("  attached {}\n", stored.digest));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A bundle that speaks of the image: nobody would look for another one there.
fn bundle_about(path: &Path, digest: &Digest) -> Result<Arc<Bundle>, Failure> {
    let named = |reason: String| Failure::unclear(format!("{}: {reason}", path.display()));
    let bytes = read_bounded(path, MAX_BUNDLE)?;
    let bundle = Bundle::parse(bytes.trim_ascii()).map_err(|error| named(error.to_string()))?;
    let Content::Dsse(envelope) = bundle.content() else {
        return Err(named(
            "expected a statement about an image, found a signature over a file".to_owned(),
        )
        .hint("a signature over an image is a statement, too: `countersign sign` makes it"));
    };
    let statement =
        Statement::parse(&envelope.payload).map_err(|error| named(error.to_string()))?;
    let artifact = digest.artifact();
    let about = artifact.digests().any(|(hash, digest)| statement.subject(hash, digest).is_some());
    match about {
        true => Ok(Arc::new(bundle)),
        false => Err(named(format!("it is not about {digest}"))),
    }
}

/// `clean`
pub(crate) fn clean(args: &Clean) -> Result<ExitCode, Failure> {
    let (reference, repository) = image(&args.image)?;
    let place = Where::Registry(repository.clone());
    let removed = block_on(async {
        let digest = place.resolve(&reference).await?.descriptor.digest;
        remove(&repository, &digest, args.kind).await
    })?
    .map_err(failure)?;
    output::print(&format!("removed {removed} from {reference}\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(from: &Repository, digest: &Digest, kind: Kind) -> Result<usize, Error> {
    let place = Where::Registry(from.clone());
    let signature = |attachment: &Attachment| attachment.predicate_type() == Some(IMAGE_SIGNATURE);
    let wanted: Vec<_> = place
        .referrers(digest)
        .await?
        .into_iter()
        .filter(|attachment| match kind {
            Kind::All => true,
            Kind::Signature => signature(attachment),
            Kind::Attestation => attachment.may_be_bundle() && !signature(attachment),
            Kind::Sbom => false,
        })
        .collect();
    if !wanted.is_empty() {
        oci::detach(from, digest, &wanted).await?;
    }
    let mut removed = wanted.len();
    for (of, suffix) in [
        (Kind::Signature, Suffix::Signatures),
        (Kind::Attestation, Suffix::Attestations),
        (Kind::Sbom, Suffix::Sbom),
    ] {
        if kind != Kind::All && kind != of {
            continue;
        }
        let Some(stored) = place.tagged(&suffix.tag(digest)).await? else { continue };
        // Registries delete manifests by digest; the tag goes with it.
        from.delete(stored.descriptor.digest.as_str()).await?;
        removed += 1;
    }
    Ok(removed)
}
