//! `verify` and `verify-attestation`: bundles as referrers, then the fallback tag, then cosign's legacy
//! tags, each only if what came before does not suffice.
//!
//! What a registry fails to answer leaves the answer undecided, unless other evidence holds.

mod by_policy;
mod images;

use super::annotations;
use crate::args::image::{ImageVerification, Verify, VerifyAttestation};
use crate::cmd::verify::bundles::claimed_identity;
use crate::cmd::verify::predicate;
use crate::failure::Failure;
use crate::grounds::Grounds;
use crate::judge::MAX_TRIED;
use crate::report::{self, Demand, Results, Verdict};
use crate::runtime::block_on;
use countersign_client::oci::{Attachment, Digest, Error, Evidence, Layer, Payload, Suffix, Where};
use countersign_policy::Signers;
use countersign_verify::certificate::Identity;
use countersign_verify::statement::{IMAGE_SIGNATURE, Statement, Subject};
use countersign_verify::{Artifact, Bundle, Report, Verified, Verifier};
use images::{Image, each, images, unread};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// What must speak for an image.
enum Wanted {
    /// A signature, with these annotations.
    Signature(BTreeMap<String, String>),
    /// An attestation of this predicate type.
    Attestation(String),
}

/// `verify`
pub(crate) fn signatures(args: &Verify) -> Result<ExitCode, Failure> {
    if args.images.by_policy.policy.is_empty() {
        return run(&args.images, Wanted::Signature(annotations(&args.annotations)?));
    }
    if !args.annotations.is_empty() {
        return Err(Failure::unclear("--policy and --annotations exclude each other")
            .hint("a policy demands what a signer adds as an attestation"));
    }
    by_policy::run(&args.images, None)
}

/// `verify-attestation`
pub(crate) fn attestations(args: &VerifyAttestation) -> Result<ExitCode, Failure> {
    let kind = args.kind.as_deref().map(predicate::uri).transpose()?;
    match kind {
        Some(kind) if args.images.by_policy.policy.is_empty() => {
            run(&args.images, Wanted::Attestation(kind))
        }
        kind => by_policy::run(&args.images, kind),
    }
}

fn run(args: &ImageVerification, wanted: Wanted) -> Result<ExitCode, Failure> {
    let evidence = &args.evidence;
    let (policy, key) = evidence.whom.policy(|| claimed(args))?;
    let grounds = Grounds::of(evidence, key)?;
    let job = Job { verifier: grounds.verifier(), policy, wanted };
    let results = block_on(async {
        let verify = async |image: &Image| Ok(job.image(image).await);
        each(&images(args).await?, evidence.output.output, verify).await
    })??;
    Results::new(results).trusting(&evidence.trust).print(&evidence.output, "verified")
}

/// Whom the first bundle that refers to the first image claims to be by, for the flags to paste.
fn claimed(args: &ImageVerification) -> Option<Identity> {
    let claimed = block_on(async {
        let image = images(args).await.ok()?.into_iter().next()?.ok()?;
        let (place, digest) = (&image.place, image.digest());
        let listed = place.referrers(digest).await.ok()?;
        let first = listed.iter().find(|attachment| attachment.may_be_bundle())?;
        let found = place.bundle(digest, first).await.ok()??;
        claimed_identity(&Bundle::parse_owned(found.bundle).ok()?)
    });
    claimed.ok().flatten()
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
    /// Looks for evidence about one digest until some suffices.
    async fn image(&self, image: &Image) -> report::Result {
        let (place, digest, name) = (&image.place, image.digest(), image.reference.to_string());
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
            let attested = others.iter().find(|uri| **uri != IMAGE_SIGNATURE);
            let command = attested.map_or("verify".to_owned(), |uri| {
                format!("verify-attestation --type {}", predicate::flag(uri))
            });
            reason = format!(
                "{reason}; there is something of another kind ({}), which `countersign {command}` verifies",
                others.join(", "),
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
        let demands = self.demands(report.result().ok(), digest, None);
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
                (Artifact::from_bytes(&layer.content), Some(payload))
            }
        };
        let report = self.verifier.verify_json(&layer.bundle, &artifact);
        let demands = self.demands(report.result().ok(), digest, payload);
        report::Result::new(name, source, &report, demands)
    }

    fn predicate_type(&self) -> &str {
        match &self.wanted {
            Wanted::Signature(_) => IMAGE_SIGNATURE,
            Wanted::Attestation(uri) => uri,
        }
    }

    /// What is asked beyond the evidence: the right kind of claim, about this image, by the right signer.
    /// `digest` is the image's, `legacy` what a legacy signature covers.
    fn demands(
        &self,
        verified: Option<&Verified>,
        digest: &Digest,
        legacy: Option<Result<Payload, String>>,
    ) -> Vec<Demand> {
        let statement = verified.and_then(Verified::statement);
        let found = statement.map(Statement::predicate_type);
        let expected = match &self.wanted {
            Wanted::Signature(_) => "a signature over the image".to_owned(),
            Wanted::Attestation(uri) => format!("an attestation of type {uri}"),
        };
        let payload = legacy.as_ref().and_then(|payload| payload.as_ref().ok());
        let outcome = match (legacy.as_ref(), found) {
            (Some(Ok(payload)), None) if payload.digest == digest.as_str() => {
                Ok(format!("cosign's older signature over {digest}"))
            }
            (Some(Ok(payload)), None) => Err((
                "OTHER_IMAGE",
                format!("the signature is over another image, {}", payload.digest),
            )),
            (Some(Err(reason)), _) => Err(("CONTENT_MISMATCH", reason.clone())),
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
            // A statement may be about several images, each with annotations of its own.
            let (hash, hex) = digest.as_str().split_once(':').unwrap_or_default();
            let this = |subject: &&Subject| subject.digests.get(hash).is_some_and(|it| it == hex);
            let subject = statement.and_then(|statement| statement.subjects().iter().find(this));
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
