//! `verify` and `verify-attestation`: bundles as referrers, then the fallback tag, then cosign's legacy
//! tags, each only if what came before does not suffice.
//!
//! What a registry fails to answer leaves the answer undecided, unless other evidence holds.

use super::{AT_ONCE, annotations, failure, parts, registries};
use crate::args::Format;
use crate::args::image::{ImageVerification, Verify, VerifyAttestation};
use crate::cmd::verify::{predicate, roots, thresholds};
use crate::cmd::witness;
use crate::failure::Failure;
use crate::report::{self, Demand, Results, Verdict};
use crate::trust::block_on;
use countersign_client::oci::{
    Attachment, Digest, Error, Evidence, Layer, Layout, Payload, Reference, Stored, Suffix, Where,
};
use countersign_policy::Signers;
use countersign_verify::statement::{IMAGE_SIGNATURE, Statement};
use countersign_verify::{Artifact, Bundle, Report, Verified, Verifier};
use futures_util::{StreamExt as _, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// Most bundles of one image that are fetched and verified; cosign reads as many legacy signatures.
const MAX_TRIED: usize = 1000;

/// What must speak for an image.
enum Wanted {
    /// A signature, with these annotations.
    Signature(BTreeMap<String, String>),
    /// An attestation of this predicate type.
    Attestation(String),
}

/// `verify`
pub(crate) fn signatures(args: &Verify) -> Result<ExitCode, Failure> {
    run(&args.images, Wanted::Signature(annotations(&args.annotations)?))
}

/// `verify-attestation`
pub(crate) fn attestations(args: &VerifyAttestation) -> Result<ExitCode, Failure> {
    run(&args.images, Wanted::Attestation(predicate::uri(&args.kind)?))
}

fn run(args: &ImageVerification, wanted: Wanted) -> Result<ExitCode, Failure> {
    let evidence = &args.evidence;
    if evidence.offline && !args.local_image {
        return Err(Failure::unclear("--offline makes no network call, and registries need some")
            .hint(
                "`countersign save` the image where there is a network, and give --local-image",
            ));
    }
    let (policy, key) = evidence.whom.policy(|| None)?;
    let roots = roots(evidence, key.is_some())?;
    let verifier = Verifier::any_of(&roots);
    let verifier = key.as_ref().map_or(verifier, |key| verifier.with_key(key));
    let verifier = verifier.with_thresholds(thresholds(evidence, key.is_some()));
    let witnesses = evidence.witness_policy.as_deref().map(witness::policy).transpose()?;
    let verifier =
        witnesses.as_ref().map_or(verifier, |witnesses| verifier.with_witnesses(witnesses));
    let job = Job { verifier, policy, wanted };
    let results = block_on(async {
        let registries = registries(&args.registry, args.timeout)?;
        let check = async |name: &String| {
            let found = match args.local_image {
                true => local(Path::new(name)).await,
                false => {
                    async {
                        let reference = Reference::parse(name)?;
                        let place = Where::Registry(registries.repository(&reference)?);
                        Ok(vec![(place, reference)])
                    }
                    .await
                }
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => return vec![Err((name.clone(), error))],
            };
            let mut results = Vec::new();
            for (place, reference) in found {
                match job.images(&place, &reference, args.recursive).await {
                    Ok(judged) => results.extend(judged.into_iter().map(Ok)),
                    Err(error) => results.push(Err((reference.to_string(), error))),
                }
            }
            results
        };
        let results = stream::iter(&args.images).map(check).buffered(AT_ONCE);
        Ok::<_, Failure>(
            results.collect::<Vec<_>>().await.into_iter().flatten().collect::<Vec<_>>(),
        )
    })??;
    // Alone, an image that cannot be read is an error with its hint; among others it is a line.
    if let ([Err((_, error))], Format::Text) = (results.as_slice(), args.output().output) {
        return Err(failure(error.clone()));
    }
    let settle = |result: Result<_, (String, Error)>| {
        result.unwrap_or_else(|(name, error)| unread(&name, error))
    };
    Results::new(results.into_iter().map(settle).collect()).print(args.output(), "verified")
}

fn unread(name: &str, error: Error) -> report::Result {
    let (code, finding) = (error.code(), error.is_finding());
    match finding {
        true => report::Result::refused(name, code, error.to_string()),
        false => report::Result::unread(name, code, &failure(error)),
    }
}

/// The images of a layout, by the names that they were saved under.
async fn local(path: &Path) -> Result<Vec<(Where, Reference)>, Error> {
    let layout = Layout::open(path)?;
    let images = layout.images()?;
    if images.is_empty() {
        return Err(Error::NotFound { what: format!("an image in {}", path.display()) });
    }
    let named = |image: &countersign_client::oci::Descriptor| {
        let name = Layout::name(image).unwrap_or("localhost/image");
        Ok((Where::Layout(layout.clone()), Reference::parse(name)?.at(&image.digest)))
    };
    images.iter().map(named).collect()
}

/// All that the verification of each image needs.
struct Job<'a> {
    verifier: Verifier<'a>,
    policy: Signers,
    wanted: Wanted,
}

/// What was found about one image so far.
#[derive(Default)]
struct Search {
    accepted: Option<report::Result>,
    /// Of those that do not suffice the one that came furthest.
    furthest: Option<report::Result>,
    /// What could not be read, so that there may be more than is known.
    unread: Option<Error>,
    /// What was read and is wrong.
    wrong: Option<Error>,
    tried: BTreeSet<Digest>,
    /// Attestations of types that nobody asked for.
    others: BTreeSet<String>,
}

impl Search {
    fn judged(&mut self, result: report::Result) {
        if result.verdict == Verdict::Accepted {
            self.accepted = Some(result);
        } else if self.furthest.as_ref().is_none_or(|other| result.passed() > other.passed()) {
            self.furthest = Some(result);
        }
    }

    fn failed(&mut self, error: Error) {
        let place = if error.is_finding() { &mut self.wrong } else { &mut self.unread };
        place.get_or_insert(error);
    }
}

impl Job<'_> {
    /// Verifies what `reference` means; of an index its manifests, too, if `recursive`.
    async fn images(
        &self,
        place: &Where,
        reference: &Reference,
        recursive: bool,
    ) -> Result<Vec<report::Result>, Error> {
        // A digest needs no resolving; its signatures speak of it, whether it is there or not.
        let (digest, stored) = match (reference.digest(), recursive) {
            (Some(digest), false) => (digest.clone(), None),
            _ => {
                let stored: Stored = place.resolve(reference).await?;
                (stored.descriptor.digest.clone(), Some(stored))
            }
        };
        let reference = reference.at(&digest);
        let mut images = vec![reference.clone()];
        if let (true, Some(stored)) = (recursive, stored) {
            let below = parts(place, &reference, &stored).await?;
            images.extend(below.into_iter().map(|(reference, _)| reference));
        }
        let judge = async |image: &Reference| {
            let digest = image.digest().expect("resolved above").clone();
            self.image(place, image, &digest).await
        };
        Ok(stream::iter(&images).map(judge).buffered(AT_ONCE).collect().await)
    }

    /// Looks for evidence about one digest until some suffices.
    async fn image(&self, place: &Where, reference: &Reference, digest: &Digest) -> report::Result {
        let name = reference.to_string();
        let mut search = Search::default();
        let listed = place.listed(digest).await.map(Option::unwrap_or_default);
        self.referrers(place, &name, digest, listed, &mut search).await;
        // A registry that got its API lately has older ones under the tag.
        if search.accepted.is_none() {
            let listed = place.listed_by_tag(digest).await;
            self.referrers(place, &name, digest, listed, &mut search).await;
        }
        if search.accepted.is_none() {
            self.legacy(place, &name, digest, &mut search).await;
        }
        self.conclude(&name, search)
    }

    fn conclude(&self, name: &str, search: Search) -> report::Result {
        let Search { accepted, furthest, unread: missed, wrong, others, .. } = search;
        if let Some(accepted) = accepted {
            return accepted;
        }
        // What could not be read might have sufficed.
        if let Some(error) = missed {
            return unread(name, error);
        }
        if let Some(furthest) = furthest {
            return furthest;
        }
        if let Some(error) = wrong {
            return unread(name, error);
        }
        let (code, what) = match &self.wanted {
            Wanted::Signature(_) => ("SIGNATURE_MISSING", "no signature".to_owned()),
            Wanted::Attestation(uri) => {
                ("ATTESTATION_MISSING", format!("no attestation of type {uri}"))
            }
        };
        let mut reason = format!("{what} refers to this digest");
        if !others.is_empty() {
            let others: Vec<_> = others.iter().map(String::as_str).collect();
            let flags: Vec<_> = others.iter().map(|uri| predicate::flag(uri)).collect();
            reason = format!(
                "{reason}; there is something of another kind ({}), which `countersign verify-attestation --type {}` verifies",
                others.join(", "),
                flags[0]
            );
        }
        report::Result::refused(name, code, reason)
    }

    async fn referrers(
        &self,
        place: &Where,
        name: &str,
        digest: &Digest,
        listed: Result<Vec<Attachment>, Error>,
        search: &mut Search,
    ) {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return search.failed(error),
        };
        let wanted = self.predicate_type();
        for attachment in listed.iter().filter(|attachment| attachment.may_be_bundle()) {
            if let Some(other) = attachment.predicate_type().filter(|found| *found != wanted) {
                search.others.insert(other.to_owned());
                continue;
            }
            if !search.tried.insert(attachment.descriptor.digest.clone()) {
                continue;
            }
            if search.tried.len() > MAX_TRIED {
                let what = format!("bundles that refer to {digest}");
                return search.failed(Error::TooMany { what, limit: MAX_TRIED });
            }
            match place.bundle(digest, attachment).await {
                Ok(Some(evidence)) => search.judged(self.bundle(name, digest, evidence)),
                Ok(None) => {}
                Err(error) => search.failed(error),
            }
            if search.accepted.is_some() {
                return;
            }
        }
    }

    async fn legacy(&self, place: &Where, name: &str, digest: &Digest, search: &mut Search) {
        let suffix = match self.wanted {
            Wanted::Signature(_) => Suffix::Signatures,
            Wanted::Attestation(_) => Suffix::Attestations,
        };
        let layers = match place.legacy_layers(digest, suffix).await {
            Ok(layers) => layers,
            Err(error) => return search.failed(error),
        };
        for descriptor in &layers {
            let stated = descriptor.legacy_predicate_type();
            if let Some(other) = stated.filter(|found| *found != self.predicate_type()) {
                search.others.insert(other.to_owned());
                continue;
            }
            match place.legacy(descriptor).await {
                Ok(layer) => search.judged(self.layer(name, digest, &layer)),
                Err(error) => search.failed(error),
            }
            if search.accepted.is_some() {
                return;
            }
        }
    }

    fn bundle(&self, name: &str, digest: &Digest, evidence: Evidence) -> report::Result {
        let report = match Bundle::parse_owned(evidence.bundle) {
            Ok(bundle) => self.verifier.verify(&bundle, &digest.artifact()),
            Err(error) => Report::malformed(error),
        };
        let demands = self.demands(report.result().ok(), None);
        report::Result::new(name, evidence.digest.as_str(), &report, demands)
    }

    /// A legacy signature is one over its payload, which must name the image; an attestation's statement
    /// does.
    fn layer(&self, name: &str, digest: &Digest, layer: &Layer) -> report::Result {
        let source = layer.descriptor.digest.as_str();
        let (artifact, payload) = match self.wanted {
            Wanted::Attestation(_) => (digest.artifact(), None),
            Wanted::Signature(_) => {
                let payload = Payload::parse(&layer.content).map_err(|error| error.to_string());
                (Artifact::from_bytes(&layer.content), Some((digest, payload)))
            }
        };
        let report = self.verifier.verify_json(&layer.bundle, &artifact);
        let demands = self.demands(report.result().ok(), payload);
        report::Result::new(name, source, &report, demands)
    }

    fn predicate_type(&self) -> &str {
        match &self.wanted {
            Wanted::Signature(_) => IMAGE_SIGNATURE,
            Wanted::Attestation(uri) => uri,
        }
    }

    /// What is asked beyond the evidence: the right kind of claim, about this image, by the right signer.
    /// `legacy` is the image's digest and what a legacy signature covers.
    fn demands(
        &self,
        verified: Option<&Verified>,
        legacy: Option<(&Digest, Result<Payload, String>)>,
    ) -> Vec<Demand> {
        let statement = verified.and_then(Verified::statement);
        let found = statement.map(Statement::predicate_type);
        let expected = match &self.wanted {
            Wanted::Signature(_) => "a signature over the image".to_owned(),
            Wanted::Attestation(uri) => format!("an attestation of type {uri}"),
        };
        let payload = legacy.as_ref().and_then(|(_, payload)| payload.as_ref().ok());
        let outcome = match (legacy.as_ref(), found) {
            (Some((digest, Ok(payload))), None) if payload.digest == digest.as_str() => {
                Ok(format!("cosign's older signature over {digest}"))
            }
            (Some((_, Ok(payload))), None) => Err((
                "OTHER_IMAGE",
                format!("the signature is over another image, {}", payload.digest),
            )),
            (Some((_, Err(reason))), _) => Err(("CONTENT_MISMATCH", reason.clone())),
            (_, Some(uri)) if uri == self.predicate_type() => Ok(expected.clone()),
            (_, Some(uri)) => Err((
                "PREDICATE_TYPE_MISMATCH",
                format!(
                    "expected {expected}, found an attestation of type {uri}: `countersign verify-attestation --type {}` verifies that",
                    predicate::flag(uri)
                ),
            )),
            (_, None) => Err((
                "CONTENT_MISMATCH",
                format!("expected {expected}, found a signature over the manifest as a file"),
            )),
        };
        let mut demands = vec![Demand { name: "content", expected, outcome }];
        if let Wanted::Signature(wanted) = &self.wanted
            && !wanted.is_empty()
        {
            let subject = statement.and_then(|statement| statement.subjects().first());
            let found = payload.map(|payload| &payload.annotations);
            let found = found.or(subject.map(|subject| &subject.annotations));
            let differs = wanted
                .iter()
                .find(|(name, value)| found.and_then(|found| found.get(*name)) != Some(*value));
            let expected = "the annotations asked for".to_owned();
            let outcome = match differs {
                None => Ok(format!("{} as asked for", wanted.len())),
                Some((name, value)) => {
                    let found = found.and_then(|found| found.get(name));
                    let found = found.map_or("none".to_owned(), |found| format!("{found:?}"));
                    let reason = format!("annotation {name}: expected {value:?}, found {found}");
                    Err(("ANNOTATION_MISMATCH", reason))
                }
            };
            demands.push(Demand { name: "annotations", expected, outcome });
        }
        let outcome =
            verified.map_or(Ok(String::new()), |verified| match self.policy.accept(verified) {
                Ok(rule) => Ok(rule.to_owned()),
                Err(refusal) => Err(("IDENTITY_MISMATCH", refusal.to_string())),
            });
        let expected = "signed by whom the flags demand".to_owned();
        demands.push(Demand { name: "policy", expected, outcome });
        demands
    }
}
