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
    Attachment, Descriptor, Digest, Error, Layer, MAX_CHILDREN, Payload, Suffix, Where, media_type,
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
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Most bundles of one image that are fetched and verified; cosign reads as many legacy signatures.
pub(crate) const MAX_TRIED: usize = 1000;
/// Most bytes of evidence about one image, its images for each platform among it: the largest attestation, or
/// 30 000 ordinary ones.
const MAX_EVIDENCE: u64 = MAX_BUNDLE as u64;
/// How many bundles of one image are fetched at the same time.
const AT_ONCE: usize = 4;
/// KiB of bundles, of all images together, that are in memory before they are verified. One that is larger has
/// all of it to itself.
const ROOM: u32 = 64 << 10;
/// Up to here, in bytes, a bundle needs no room: whoever fills it delays no ordinary signature.
const SMALL: u64 = 256 << 10;

/// A policy with all that evidence is verified by. It can be shared between threads.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    /// Our own roots.
    own: Grounds,
    /// By each root and key that the policy names, in its order.
    named: Vec<(String, Grounds)>,
    /// [`ROOM`].
    room: Semaphore,
}

/// What may be evidence about an image, as it is listed.
enum Listed {
    Referrer(Attachment),
    /// Of a legacy tag.
    Layer(Descriptor),
}

impl Listed {
    const fn digest(&self) -> &Digest {
        match self {
            Self::Referrer(Attachment { descriptor }) | Self::Layer(descriptor) => {
                &descriptor.digest
            }
        }
    }
}

/// A bundle in memory, with the room that it takes until it is verified.
struct Fetched<'a> {
    bundle: Vec<u8>,
    /// What a legacy signature is over.
    payload: Option<Vec<u8>>,
    room: Option<SemaphorePermit<'a>>,
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
        Self { policy, own, named, room: Semaphore::new(ROOM as usize) }
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
        let read = &AtomicU64::new(0);
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
    async fn about(&self, place: &Where, digest: &Digest, read: &AtomicU64) -> Gathered {
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

        let referrers = referrers.into_iter().map(Listed::Referrer);
        let listed = referrers.chain(layers.into_iter().map(Listed::Layer)).enumerate();
        let fetched = listed.map(|(number, listed)| async move {
            let found = self.fetch(place, digest, &listed, read).await;
            (number, listed.digest().to_string(), found)
        });
        // Told in the order of the lists; but verified as they come, for they take room.
        let mut fetched = pin!(stream::iter(fetched).buffer_unordered(AT_ONCE));
        let mut weighed = BTreeMap::new();
        while let Some((number, source, found)) = fetched.next().await {
            let mut one = Gathered::default();
            match found {
                Ok(Some(Fetched { bundle, payload, room })) => {
                    let content = Content::Image(digest, payload);
                    self.weigh(&mut one, &source, &Bundle::parse_owned(bundle), &content);
                    drop(room);
                }
                Ok(None) => {}
                Err(error) => one.failed(&source, &error),
            }
            weighed.insert(number, one);
        }
        weighed.into_values().for_each(|one| gathered.merge(one));
        gathered
    }

    /// What is listed about `digest`, if it is a bundle.
    async fn fetch(
        &self,
        place: &Where,
        digest: &Digest,
        listed: &Listed,
        read: &AtomicU64,
    ) -> Result<Option<Fetched<'_>>, Error> {
        let layer = match listed {
            Listed::Layer(layer) => layer.clone(),
            Listed::Referrer(referrer) => match place.bundle_layer(digest, referrer).await? {
                Some(layer) => layer,
                None => return Ok(None),
            },
        };
        let room = self.room_for(layer.size, read).await?;
        let fetched = match listed {
            Listed::Referrer(_) => {
                place.blob(&layer, MAX_BUNDLE).await.map(|bundle| (bundle, None))
            }
            Listed::Layer(_) => {
                place.legacy(&layer).await.map(|Layer { bundle, content, .. }| {
                    (bundle, layer.is_legacy_signature().then_some(content))
                })
            }
        };
        match fetched {
            Ok((bundle, payload)) => Ok(Some(Fetched { bundle, payload, room })),
            Err(error) => {
                read.fetch_sub(layer.size, Ordering::Relaxed); // there was nothing
                Err(error)
            }
        }
    }

    /// Counts `size` bytes to what `read` has of an image, and waits for room for them.
    async fn room_for(
        &self,
        size: u64,
        read: &AtomicU64,
    ) -> Result<Option<SemaphorePermit<'_>>, Error> {
        let within = |read: u64| read.checked_add(size).filter(|read| *read <= MAX_EVIDENCE);
        if read.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            let (what, limit) = ("bytes of bundles of one image".to_owned(), MAX_BUNDLE);
            return Err(Error::TooMany { what, limit });
        }
        if size <= SMALL {
            return Ok(None);
        }
        let needed = u32::try_from(size >> 10).unwrap_or(ROOM).min(ROOM);
        Ok(Some(self.room.acquire_many(needed).await.expect("it is never closed")))
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
    use futures_util::FutureExt as _;

    #[test]
    fn a_judge_serves_many_requests_at_once() {
        const fn shared<T: Send + Sync + 'static>() {}
        fn spawned<F: Future + Send>(_: impl FnOnce(&'static Judge, &'static Where) -> F) {}
        shared::<Judge>();
        static DIGEST: std::sync::OnceLock<Digest> = std::sync::OnceLock::new();
        spawned(|judge, place| judge.gather(place, DIGEST.get_or_init(|| Digest::of(b"image"))));
    }

    /// A layout in which bundles of these sizes, which are none, refer to `image`.
    fn layout(folder: &std::path::Path, image: &Digest, sizes: &[usize]) -> Where {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let store = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.as_str().rsplit(':').next().unwrap()), bytes).unwrap();
            serde_json::json!({ "mediaType": kind, "digest": digest.as_str(), "size": bytes.len() })
        };
        let (manifest, bundle) = (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.dev.sigstore.bundle.v0.3+json",
        );
        let referrer = |(number, size): (usize, &usize)| {
            let content = vec![b'0' + u8::try_from(number).unwrap(); *size];
            let referrer = serde_json::json!({
                "schemaVersion": 2, "mediaType": manifest, "artifactType": bundle,
                "config": store("application/vnd.oci.empty.v1+json", b"{}"),
                "layers": [store(bundle, &content)],
                "subject": { "mediaType": manifest, "digest": image.as_str(), "size": 1 },
            });
            store(manifest, referrer.to_string().as_bytes())
        };
        let manifests: Vec<_> = sizes.iter().enumerate().map(referrer).collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
        Where::Layout(countersign_client::oci::Layout::open(folder).unwrap())
    }

    /// Anybody who may push may put large bundles beside an image, and beside many of them.
    #[tokio::test]
    async fn large_bundles_wait_for_room_and_ordinary_ones_do_not() {
        let policy = Policy::parse("policy: p\nserial: 1\nunmatched: refuse\n").unwrap();
        let thresholds = Thresholds::KEY;
        let judge =
            Judge::new(policy, Grounds::new(Vec::new(), thresholds, None), Vec::new(), thresholds);
        let image = Digest::of(b"image");
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (SMALL as usize, SMALL as usize + 1);
        let ordinary = layout(&folder.path().join("small"), &image, &[small; 5]);
        // More at once than there are places, and two that take all of the room.
        let all = 65 << 20;
        let mixed = layout(&folder.path().join("mixed"), &image, &[large, small, all, all, large]);

        let room = judge.room.acquire_many(ROOM).await.unwrap();
        assert_eq!(judge.gather(&ordinary, &image).await.unwrap().rejected.len(), 5);
        assert!(judge.gather(&mixed, &image).now_or_never().is_none(), "there is no room");
        drop(room);
        let found = tokio::join!(judge.gather(&mixed, &image), judge.gather(&mixed, &image));
        for found in [found.0.unwrap(), found.1.unwrap()] {
            assert_eq!((found.rejected.len(), found.missed.is_none()), (5, true));
        }
        assert_eq!(judge.room.available_permits(), ROOM as usize);
        // Of one image there is an end.
        let much = layout(&folder.path().join("much"), &image, &[all, all, all, small]);
        let found = judge.gather(&much, &image).await.unwrap();
        assert_eq!(
            (found.rejected.len(), found.missed.map(|missed| missed.why)),
            (3, Some("limit"))
        );
    }
}
