//! Deciding by a policy: evidence is gathered and verified first, then one pure decision is made of it.
//!
//! `verify --policy` and its like and the admission webhook all decide here. Gathering knows no clock and
//! decides nothing; deciding reads nothing.

use crate::args::Evidence as Flags;
use crate::args::policy::ByPolicy;
use crate::failure::Failure;
use crate::grounds::{Grounds, thresholds};
use crate::policy_file::{self, Named};
use countersign_client::oci::{
    Attachment, Digest, Error, MAX_CHILDREN, Payload, Suffix, Where, media_type,
};
use countersign_client::retry::Retryable as _;
use countersign_policy::{
    Artifact as Subject, Content as Claim, Context, Decision, Evidence, Facts, Point, Policy,
    counted, decide, facts_from,
};
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::{Artifact, Bundle, Thresholds, Verified, bundle, verify};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bundles of one image that are fetched and verified; cosign reads as many legacy signatures.
pub(crate) const MAX_TRIED: usize = 1000;
/// Most bytes of evidence about one image, its images for each platform among it: the largest attestation, or
/// 30 000 ordinary ones.
const MAX_EVIDENCE: usize = MAX_BUNDLE;
/// How many bundles of one image are fetched at the same time; each may be large.
const AT_ONCE: usize = 4;

/// A policy with all that evidence is verified by. It can be shared between threads.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    /// Our own roots.
    own: Grounds,
    /// By each root and key that the policy names, in its order.
    named: Vec<(String, Grounds)>,
}

/// All that is known about one artifact before a decision is made.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// What was verified.
    pub(crate) evidence: Vec<Evidence>,
    /// What does not verify, and why.
    pub(crate) rejected: Vec<(String, String)>,
    /// What could not be read, the first of it: there may be more evidence.
    pub(crate) missed: Option<Missed>,
    /// Of an image for several platforms the image for each, where the policy asks about them.
    pub(crate) platforms: Vec<Digest>,
}

/// Evidence that there may be.
#[derive(Debug)]
pub(crate) struct Missed {
    /// `network` or `limit`, as facts have it.
    pub(crate) why: &'static str,
    /// A sentence.
    pub(crate) what: String,
    /// Nobody answered, so that what was known before is as good as ever. Otherwise somebody did, and there
    /// is something else by now.
    pub(crate) away: bool,
}

impl Missed {
    /// By why it could not be read.
    pub(crate) fn of(error: &Error) -> Self {
        let why = if matches!(error, Error::TooMany { .. }) { "limit" } else { "network" };
        let away = matches!(error, Error::Http(error) if error.retryable());
        Self { why, what: error.to_string(), away }
    }
}

impl Gathered {
    fn failed(&mut self, what: &str, error: &Error) {
        if error.is_finding() {
            return self.rejected.push((what.to_owned(), error.to_string()));
        }
        self.miss(Missed::of(error));
    }

    /// The first is told.
    fn miss(&mut self, missed: Missed) {
        match &mut self.missed {
            Some(first) => first.away &= missed.away,
            none => *none = Some(missed),
        }
    }

    fn merge(&mut self, other: Self) {
        self.evidence.extend(other.evidence);
        self.rejected.extend(other.rejected);
        other.missed.into_iter().for_each(|missed| self.miss(missed));
    }
}

impl Judge {
    /// By `policy` and the roots and keys that it names; of what `own` says the roots are ours, the rest
    /// is for all. `key` is how much must speak for a signature by a managed key.
    pub(crate) fn new(
        policy: Policy,
        own: Grounds,
        named: Vec<(String, Named)>,
        key: Thresholds,
    ) -> Self {
        let grounds = |named| match named {
            Named::Root(root) => own.by_root(*root),
            Named::Key { key: public, logged: true } => own.by_key(*public, key),
            Named::Key { key: public, logged: false } => {
                own.by_key(*public, Thresholds { logs: 0, ..key })
            }
        };
        let named = named.into_iter().map(|(name, named)| (name, grounds(named))).collect();
        Self { policy, own, named }
    }

    /// By the flags of a command.
    pub(crate) fn of(flags: &Flags, by: &ByPolicy) -> Result<Self, Failure> {
        if flags.whom.names_someone() || flags.whom.key.is_some() {
            return Err(Failure::unclear(
                "--policy and flags about who must have signed exclude each other",
            )
            .hint("the policy says who counts: its roles, and the keys under trust"));
        }
        let [path, ..] = by.policy.as_slice() else {
            return Err(Failure::unclear("by which policy? Give --policy FILE"));
        };
        let policy = policy_file::read_all(&by.policy)?;
        let known: Vec<&str> = policy.contexts().collect();
        if let Some(name) = by.context.as_deref().filter(|name| !known.contains(name)) {
            return Err(Failure::unclear(format!("--in {name}: the policy has no such context"))
                .hint(format!("its contexts are: {}", known.join(", "))));
        }
        let named = policy_file::trust(&policy, path)?;
        Ok(Self::new(policy, Grounds::of(flags, None)?, named, thresholds(flags, true)))
    }

    /// By which it decides.
    pub(crate) const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides. Pure: the facts are all that it depends on, and replay it.
    pub(crate) fn decide(
        &self,
        subject: Subject,
        context: Context,
        gathered: &Gathered,
        now: Timestamp,
    ) -> (Decision, Facts) {
        let platforms = gathered.platforms.iter().map(Digest::to_string).collect();
        let facts = Facts {
            at: Point::Use,
            now,
            artifact: Some(Subject { platforms, ..subject }),
            context,
            evidence: gathered.evidence.clone(),
            incomplete: gathered.missed.as_ref().map(|missed| missed.why.to_owned()),
        };
        (decide(&facts, &self.policy), facts)
    }

    /// Whether it is attested with a predicate of the type `kind`, by somebody whose word counts.
    pub(crate) fn attested(&self, facts: &Facts, kind: &str) -> bool {
        let attests = |content: &Claim| matches!(content, Claim::Attestation { predicate_type, .. } if predicate_type == kind);
        counted(facts, &self.policy).iter().any(|evidence| attests(&evidence.content))
    }

    /// All evidence about an image, and about the image for each platform if the policy asks about them:
    /// what the registry lists, what the fallback tag lists, and cosign's legacy tags.
    ///
    /// # Errors
    /// When it is not known which platforms there are. All else that cannot be read is missed evidence.
    pub(crate) async fn gather(&self, place: &Where, digest: &Digest) -> Result<Gathered, Error> {
        let read = &AtomicUsize::new(0);
        let mut gathered = self.about(place, digest, read).await;
        if self.needs_platforms() {
            gathered.platforms = platforms(place, digest).await?;
        }
        if self.policy.asks_each_platform() {
            let each = gathered.platforms.clone().into_iter();
            let each = each.map(|digest| async move { self.about(place, &digest, read).await });
            let each: Vec<_> = stream::iter(each).buffered(AT_ONCE).collect().await;
            each.into_iter().for_each(|other| gathered.merge(other));
        }
        Ok(gathered)
    }

    /// Whether the policy cannot decide about an image without the digests of its images for each platform.
    pub(crate) fn needs_platforms(&self) -> bool {
        self.policy.asks_each_platform() || self.policy.bars_digests()
    }

    /// Evidence about one digest; of what `read` counts, bytes of bundles, there are at most [`MAX_EVIDENCE`].
    async fn about(&self, place: &Where, digest: &Digest, read: &AtomicUsize) -> Gathered {
        let mut gathered = Gathered::default();
        let (listed, tagged, signatures, attestations) = tokio::join!(
            place.listed(digest),
            place.listed_by_tag(digest),
            place.legacy_layers(digest, Suffix::Signatures),
            place.legacy_layers(digest, Suffix::Attestations),
        );
        let mut referrers: Vec<Attachment> = Vec::new();
        for listed in [listed.map(Option::unwrap_or_default), tagged] {
            match listed {
                Ok(listed) => {
                    referrers.extend(listed.into_iter().filter(Attachment::may_be_bundle))
                }
                Err(error) => gathered.failed(&format!("what refers to {digest}"), &error),
            }
        }
        let mut seen = BTreeSet::new();
        referrers.retain(|one| seen.insert(one.descriptor.digest.clone()));
        let mut layers = Vec::new();
        for tagged in [signatures, attestations] {
            match tagged {
                Ok(tagged) => layers.extend(tagged),
                Err(error) => gathered.failed(&format!("a legacy tag of {digest}"), &error),
            }
        }
        // What is beyond the limit is not fetched; what is demanded may still be among the rest.
        if referrers.len() + layers.len() > MAX_TRIED {
            let what = format!("bundles that refer to {digest}");
            gathered.failed("", &Error::TooMany { what, limit: MAX_TRIED });
        }
        referrers.truncate(MAX_TRIED);
        layers.truncate(MAX_TRIED - referrers.len());

        let referrers = referrers.into_iter().map(|one| async move {
            let found = place.bundle(digest, &one).await;
            let found = found.map(|found| Some((found?.bundle, Content::Image(digest, None))));
            (one.descriptor.digest, found)
        });
        let layers = layers.into_iter().map(|one| async move {
            let payload = |content| one.is_legacy_signature().then_some(content);
            let found = place.legacy(&one).await;
            let found = found
                .map(|layer| Some((layer.bundle, Content::Image(digest, payload(layer.content)))));
            (one.digest, found)
        });
        let (referrers, layers) = (stream::iter(referrers), stream::iter(layers));
        let mut fetched = pin!(referrers.buffered(AT_ONCE).chain(layers.buffered(AT_ONCE)));
        while let Some((source, found)) = fetched.next().await {
            let (bundle, content) = match found {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    gathered.failed(source.as_str(), &error);
                    continue;
                }
            };
            let before = read.fetch_add(bundle.len(), Ordering::Relaxed);
            if before + bundle.len() > MAX_EVIDENCE {
                let what = format!("bytes of bundles that refer to {digest}");
                gathered.failed("", &Error::TooMany { what, limit: MAX_EVIDENCE });
                break;
            }
            self.weigh(&mut gathered, source.as_str(), &Bundle::parse_owned(bundle), &content);
        }
        gathered
    }

    /// Verifies one bundle, by our own roots or else by one that the policy names, and puts it where it
    /// belongs. `source` is its name for people.
    pub(crate) fn weigh(
        &self,
        gathered: &mut Gathered,
        source: &str,
        bundle: &Result<Bundle, bundle::Error>,
        content: &Content<'_>,
    ) {
        let weighed = match bundle {
            Ok(bundle) => self.evidence(source, bundle, content),
            Err(error) => Err(error.to_string()),
        };
        match weighed {
            Ok(evidence) => gathered.evidence.push(evidence),
            Err(reason) => gathered.rejected.push((source.to_owned(), reason)),
        }
    }

    fn evidence(
        &self,
        source: &str,
        bundle: &Bundle,
        content: &Content<'_>,
    ) -> Result<Evidence, String> {
        let (artifact, digest) = match content {
            Content::File(artifact, digest) => ((*artifact).clone(), (*digest).to_owned()),
            Content::Image(digest, None) => (digest.artifact(), digest.to_string()),
            Content::Image(digest, Some(payload)) => {
                (Artifact::from_bytes(payload), digest.to_string())
            }
        };
        let verified = self.verify(bundle, &artifact);
        let (verified, trust) = verified.map_err(|error| error.to_string())?;
        let mut evidence = facts_from(&verified, trust, source, &self.policy);
        match (content, verified.statement()) {
            (Content::File(..), _) | (Content::Image(_, None), Some(_)) => {}
            (Content::Image(_, None), None) => {
                return Err("it is a signature over the manifest as a file".to_owned());
            }
            (Content::Image(_, Some(_)), Some(_)) => {
                return Err("expected a signature, found an attestation".to_owned());
            }
            (Content::Image(_, Some(payload)), None) => {
                let payload = Payload::parse(payload).map_err(|error| error.to_string())?;
                if payload.digest != digest {
                    let found = payload.digest;
                    return Err(format!("the signature is over another image, {found}"));
                }
                evidence.signed_name = Some(payload.name);
            }
        }
        // Verified over this very artifact, under whatever hash the bundle names.
        evidence.digest = digest;
        Ok(evidence)
    }

    /// By our own roots, else by one that the policy names; what ours said is the reason if it holds by
    /// none.
    fn verify(
        &self,
        bundle: &Bundle,
        artifact: &Artifact,
    ) -> Result<(Verified, Option<&str>), verify::Error> {
        let by = |grounds: &Grounds| grounds.verifier().verify(bundle, artifact).into_result();
        let reason = match by(&self.own) {
            Ok(verified) => return Ok((verified, None)),
            Err(error) => error,
        };
        let named = self.named.iter().find_map(|(name, grounds)| Some((by(grounds).ok()?, name)));
        named.map(|(verified, name)| (verified, Some(name.as_str()))).ok_or(reason)
    }
}

/// What a bundle must be about.
pub(crate) enum Content<'a> {
    /// A file, and its digest as policies know it.
    File(&'a Artifact, &'a str),
    /// An image: of it a statement, or a signature over this payload, which must name it.
    Image(&'a Digest, Option<Vec<u8>>),
}

/// The image for each platform of an index, of indexes in it, too; of an image there are none. What no
/// machine can choose, such as what BuildKit attests, is no platform.
async fn platforms(place: &Where, digest: &Digest) -> Result<Vec<Digest>, Error> {
    let mut waiting = vec![digest.clone()];
    let mut found = Vec::new();
    let mut read = 0;
    while let Some(digest) = waiting.pop() {
        let index = place.manifest(&digest).await?;
        read += 1;
        for child in index.manifest.manifests().iter().filter(|child| child.is_manifest()) {
            match media_type::is_index(&child.media_type) {
                true => waiting.push(child.digest.clone()),
                false if child.platform().as_deref() == Some("unknown/unknown") => {}
                false => found.push(child.digest.clone()),
            }
        }
        if found.len() > MAX_CHILDREN || read > MAX_CHILDREN {
            let what = format!("platforms of {digest}");
            return Err(Error::TooMany { what, limit: MAX_CHILDREN });
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_serves_many_requests_at_once() {
        const fn shared<T: Send + Sync + 'static>() {}
        fn spawned<F: Future + Send>(_: impl FnOnce(&'static Judge, &'static Where) -> F) {}
        shared::<Judge>();
        static DIGEST: std::sync::OnceLock<Digest> = std::sync::OnceLock::new();
        spawned(|judge, place| judge.gather(place, DIGEST.get_or_init(|| Digest::of(b"image"))));
    }
}
