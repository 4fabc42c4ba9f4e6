//! What decides about images until the next reload: policy, trust roots, registries, and what was found.

use super::cache::{Cache, Found, Hit, Limits};
use super::hosts::{Hosts, WAITING};
use crate::args::duration;
use crate::config::admission::Config;
use crate::failure::Failure;
use crate::grounds::Grounds;
use crate::judge::{Gathered, Judge, Missed};
use crate::policy_file;
use crate::trust::{Choice, read_bounded};
use countersign_client::oci::{Digest, Error, Options, Reference, Where};
use countersign_policy::admission::{Kinds, Verdict};
use countersign_policy::{Artifact, Code, Context, Decision, Facts, Kind, Outcome, image_name};
use countersign_verify::Thresholds;
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// Largest file of authorities that is read, bytes: the system's own has 220 KiB.
const MAX_AUTHORITIES: usize = 4 << 20;

/// Bytes of a decision's ID: enough that no two of a cluster are ever the same.
const ID: usize = 12;

/// Why there is no decision: the server stops, or the work for it failed.
const UNFINISHED: &str = "the decision was not finished";

/// What is to be known of an image that was judged by a tag.
const UNPINNED: &str = "judged by what its tag means now, which may be another image once it is pulled; the policy's pin-tags-to-digests helps";

/// What decides.
pub(crate) struct Rules {
    config: Config,
    judge: Arc<Judge>,
    kinds: Kinds,
    hosts: Arc<Hosts>,
    cache: Arc<Cache>,
}

/// When an answer must be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    within: Duration,
}

impl Deadline {
    /// From now on, as configured, and before whoever asks gives up: API servers say in the query how long
    /// they wait (`timeout=10s`), and the answer has to get there, too.
    pub(crate) fn of(rules: &Rules, query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let waits = pairs.filter_map(|pair| duration(pair.strip_prefix("timeout=")?).ok()).min();
        let within = waits.map(|waits| waits / 5 * 4);
        let within = within.unwrap_or(Duration::MAX).min(rules.config.deadline);
        Self { at: Instant::now() + within, within }
    }

    /// What `work` for an image comes to, if it does by then.
    async fn wait<T>(self, image: &Reference, work: impl Future<Output = T>) -> Result<T, String> {
        // Work that is not begun causes no fetch.
        if Instant::now() >= self.at {
            return Err(self.missed(image));
        }
        timeout_at(self.at, work).await.map_err(|_| self.missed(image))
    }

    fn missed(self, image: &Reference) -> String {
        format!("{} did not answer within {} s", image.registry(), self.within.as_secs_f32())
    }
}

/// What becomes of an image that is named by a tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tags {
    /// It is refused: somebody else has pinned it, or it must not come in.
    Refused,
    /// It is judged by what the tag means now.
    Resolved,
}

/// What was found about one image.
#[derive(Debug)]
pub(crate) struct Judged {
    /// As it was named.
    pub(crate) image: String,
    /// Which one it is, if that is known.
    pub(crate) digest: Option<Digest>,
    pub(crate) verdict: Verdict,
    /// What decided: policy, serial and rule. None if it did not come to a decision.
    pub(crate) rule: Option<String>,
    /// The same policy, image, place and evidence give the same ID.
    pub(crate) id: Option<String>,
    /// What is to be known beside the verdict.
    pub(crate) warnings: Vec<String>,
}

impl Judged {
    /// Without a decision.
    fn new(image: &str, digest: Option<Digest>, verdict: Verdict) -> Self {
        let image = image.to_owned();
        Self { image, digest, verdict, rule: None, id: None, warnings: Vec::new() }
    }

    /// What was known before lets an image in; if it does not, there may be more by now.
    fn by_stale_evidence(self, why: &str) -> Self {
        match self.verdict {
            Verdict::Refused(reason) => {
                let verdict = Verdict::Undecided(format!("{why}; by what was known: {reason}"));
                Self { verdict, ..self }
            }
            _ => self,
        }
    }
}

/// The files that are read again when they change: those of the configuration, and those that its policy
/// names, if it can be read.
pub(crate) fn watched(config: &Config) -> Vec<PathBuf> {
    let named = policy_file::trust_files(&config.policy[0]);
    config.files().cloned().chain(named).collect()
}

impl Rules {
    /// Reads policies and trust roots.
    ///
    /// # Errors
    /// Every mistake of every policy; or what else does not do.
    pub(crate) fn load(config: Config) -> Result<Self, Failure> {
        let policy = policy_file::read_all(&config.policy)?;
        let by_label: Vec<_> = policy.contexts_by_label().collect();
        if !by_label.is_empty() {
            let message = format!(
                "the policy chooses namespaces by label in {}, and an API server does not tell admission the labels of a namespace",
                by_label.join(", ")
            );
            return Err(Failure::unclear(message).hint(
                "name the namespaces there: their names cannot be changed by who works in them",
            ));
        }
        let extra = policy.admission.extra_images_at.iter();
        let extra = extra.map(|(resource, way)| (resource.as_str(), way.as_str()));
        let kinds = Kinds::new(&policy.admission.kinds, extra);
        let kinds =
            kinds.map_err(|error| Failure::unclear(format!("the policy's admission: {error}")))?;
        let named = policy_file::trust(&policy, &config.policy[0])?;
        let own = Choice::Roots(config.trusted_root.clone()).load()?.roots;
        let witnesses = config.witness_policy.as_deref();
        let witnesses = witnesses.map(crate::witness_policy::read).transpose()?;
        let own = Grounds::new(own, Thresholds::CERTIFICATE, witnesses);
        let judge = Arc::new(Judge::new(policy, own, named, Thresholds::KEY));
        let authorities = config.registry_cacert.as_deref();
        let authorities =
            authorities.map(|path| read_bounded(path, MAX_AUTHORITIES)).transpose()?;
        let options = Options { authorities, budget: config.deadline, ..Options::default() };
        let (hosts, cache) = (Arc::new(Hosts::new(options)), Cache::new(Limits::default()));
        Ok(Self { config, judge, kinds, hosts, cache })
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) const fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Tags are replaced by digests, and refused where they were not.
    pub(super) fn pins_tags(&self) -> bool {
        self.judge.policy().admission.pin_tags
    }

    pub(super) fn checks_unchanged(&self) -> bool {
        self.judge.policy().admission.check_unchanged
    }

    /// Name and serial number of the policy.
    pub(crate) fn shown(&self) -> (String, u64) {
        let policy = self.judge.policy();
        (policy.name.clone(), policy.serial)
    }

    /// The name of an image with the digest that it means now.
    ///
    /// # Errors
    /// Why it could not be found out, a sentence.
    pub(super) async fn pin(&self, image: &str, deadline: Deadline) -> Result<String, String> {
        let reference = Reference::parse(image).map_err(|error| error.to_string())?;
        if reference.digest().is_some() {
            return Ok(image.to_owned());
        }
        let digest = deadline.wait(&reference, self.resolve(&reference)).await?;
        let digest = digest.map_err(|error| error.to_string())?;
        Ok(format!("{image}@{digest}"))
    }

    /// Decides about an image by `deadline`.
    pub(crate) async fn judge(
        &self,
        image: &str,
        namespace: Option<&str>,
        tags: Tags,
        deadline: Deadline,
    ) -> Judged {
        let reference = match Reference::parse(image) {
            Ok(reference) => reference,
            Err(error) => return Judged::new(image, None, Verdict::Refused(error.to_string())),
        };
        let known = reference.digest().cloned();
        // An empty name is that of no namespace: then every place counts.
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let judged = self.judged(image, &reference, namespace, tags);
        deadline
            .wait(&reference, judged)
            .await
            .unwrap_or_else(|missed| Judged::new(image, known, Verdict::Undecided(missed)))
    }

    async fn judged(
        &self,
        image: &str,
        reference: &Reference,
        namespace: Option<&str>,
        tags: Tags,
    ) -> Judged {
        let name = match image_name(&reference.name()) {
            Ok(name) => name.repository,
            Err(error) => return Judged::new(image, None, Verdict::Refused(error.to_string())),
        };
        let (digest, pinned) = match reference.digest() {
            Some(digest) => (digest.clone(), true),
            None if tags == Tags::Refused => {
                let why = "it is named by a tag, which may come to mean another image: expected a digest. The mutating webhook writes it, and warns when it cannot";
                return Judged::new(image, None, Verdict::Refused(why.to_owned()));
            }
            None => match self.resolve(reference).await {
                Ok(digest) => (digest, false),
                Err(error) => return Judged::new(image, None, failed(&error)),
            },
        };
        let subject = Artifact {
            kind: Kind::Image,
            name,
            version: reference.tag().map(str::to_owned),
            digest: digest.to_string(),
            pinned,
            ..Artifact::default()
        };
        // What is not known of the place counts as if it were every place: the cluster always is.
        let context = Context {
            cluster: Some(self.config.cluster.clone()),
            namespace: namespace.map(str::to_owned),
            ..Context::default()
        };
        // Conditions over large attestations take a while, in which others are to be answered.
        let decide = |found: Option<Arc<Found>>| {
            let (subject, context) = (subject.clone(), context.clone());
            let judge = Arc::clone(&self.judge);
            let work = move || {
                let nothing = Gathered::default();
                let gathered = found.as_ref().and_then(|found| found.gathered.as_ref().ok());
                judge.decide(subject, context, gathered.unwrap_or(&nothing), Timestamp::now())
            };
            async { spawn_blocking(work).await.map_err(|_| UNFINISHED.to_owned()) }
        };
        let conclude = |(decision, facts): (Decision, Facts), found: Option<&Found>| {
            let nothing = [0; 32];
            let evidence = found.map_or(&nothing, |found| &found.digest);
            let missed = found.and_then(|found| found.gathered.as_ref().ok()?.missed.as_ref());
            let missed = missed.map(|missed| missed.what.as_str());
            let id = self.id(&decision, &subject, &context, evidence);
            if tracing::enabled!(tracing::Level::DEBUG) {
                let facts = serde_json::to_string(&facts).unwrap_or_default();
                tracing::debug!(decision = id, facts, "decided");
            }
            let mut warnings = decision.warnings().to_vec();
            if !pinned && !self.pins_tags() {
                warnings.push(UNPINNED.to_owned());
            }
            Judged {
                rule: Some(self.rule(&decision)),
                id: Some(id),
                warnings,
                ..Judged::new(image, Some(digest.clone()), verdict(&decision, missed))
            }
        };
        // What no evidence could change needs none: no registry is asked about images that no rule is about.
        let decided = match decide(None).await {
            Ok(decided) => decided,
            Err(why) => return Judged::new(image, Some(digest.clone()), Verdict::Undecided(why)),
        };
        if self.is_settled(&decided.0) {
            return conclude(decided, None);
        }
        let mut last = Err("too many images are looked up at the moment".to_owned());
        let mut seen: Option<Arc<Found>> = None;
        // Evidence of some minutes does if it lets the image in. If not, there may be more by now.
        for at_most in [self.cache.fresh(), self.cache.negative()] {
            let hit = self.evidence(reference, &digest, at_most).await;
            let Some(Hit { found, failed }) = hit else { break };
            // What has just been fetched says the same once more.
            if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &found)) && failed.is_none() {
                break;
            }
            seen = Some(Arc::clone(&found));
            last = match &found.gathered {
                Ok(_) => decide(Some(Arc::clone(&found))).await.map(|decided| {
                    let judged = conclude(decided, Some(&found));
                    match failed {
                        Some(why) => judged.by_stale_evidence(&why),
                        None => judged,
                    }
                }),
                Err(missed) => Err(missed.what.clone()),
            };
            if matches!(&last, Ok(Judged { verdict: Verdict::Allowed, .. })) {
                break;
            }
        }
        last.unwrap_or_else(|why| Judged::new(image, Some(digest.clone()), Verdict::Undecided(why)))
    }

    /// What is known about an image, at most so old.
    async fn evidence(
        &self,
        reference: &Reference,
        digest: &Digest,
        at_most: Duration,
    ) -> Option<Hit> {
        let gather = || {
            let (judge, hosts) = (Arc::clone(&self.judge), Arc::clone(&self.hosts));
            let (reference, digest) = (reference.clone(), digest.clone());
            async move {
                // Here, for a new registry takes a while, and the cache is not held up by it.
                let (repository, turns) =
                    hosts.repository(&reference).map_err(|error| Missed::of(&error))?;
                // That too many ask at the moment says nothing against what is known.
                let busy = || Missed { away: true, ..Missed::of(&busy(&reference)) };
                let _turn = turns.take().await.ok_or_else(busy)?;
                let gathered = judge.gather(&Where::Registry(repository), &digest).await;
                gathered.map_err(|error| Missed::of(&error))
            }
        };
        let key = (reference.name(), digest.to_string());
        self.cache.get(&key, at_most, gather).await
    }

    /// What a tag means now.
    async fn resolve(&self, reference: &Reference) -> Result<Digest, Error> {
        let (repository, turns) = self.hosts.repository(reference)?;
        let _turn = turns.take().await.ok_or_else(|| busy(reference))?;
        Ok(repository.resolve(reference).await?.descriptor.digest)
    }

    fn rule(&self, decision: &Decision) -> String {
        let (name, serial) = self.shown();
        format!("{name} serial {serial}: {}", decision.rule())
    }

    /// Whether nothing that a registry knows could change the decision, which was made without: demands that are met
    /// by no evidence stay met, and which demands there are does not depend on it.
    fn is_settled(&self, decision: &Decision) -> bool {
        match decision.outcome() {
            Outcome::Pass => !decision.has_unmet() && !self.judge.needs_platforms(),
            Outcome::Fail => decision.code() == Some(&Code::Unmatched),
            Outcome::Undecided => false,
        }
    }

    /// The time is left out: what is decided twice in the same way has one ID.
    fn id(
        &self,
        decision: &Decision,
        subject: &Artifact,
        context: &Context,
        evidence: &[u8; 32],
    ) -> String {
        let outcome = format!("{:?}", decision.outcome());
        let inputs = (&self.judge.policy().digest, subject, context, hex(evidence), outcome);
        let json = serde_json::to_vec(&inputs).unwrap_or_default();
        hex(&HashAlgorithm::Sha256.digest(&json)[..ID])
    }
}

/// What a decision means here. `missed` is what could not be read, a sentence.
fn verdict(decision: &Decision, missed: Option<&str>) -> Verdict {
    let reason = decision.reason();
    match (decision.outcome(), missed) {
        (Outcome::Pass, _) => Verdict::Allowed,
        (Outcome::Fail, _) => Verdict::Refused(reason),
        (Outcome::Undecided, Some(missed)) => Verdict::Undecided(format!("{missed}; {reason}")),
        (Outcome::Undecided, None) => Verdict::Undecided(reason),
    }
}

/// Too many lookups wait for one registry.
fn busy(image: &Reference) -> Error {
    Error::TooMany { what: format!("lookups at {}", image.registry()), limit: WAITING }
}

/// What was read and is wrong is no; what could not be read is undecided.
fn failed(error: &Error) -> Verdict {
    match error.is_finding() {
        true => Verdict::Refused(error.to_string()),
        false => Verdict::Undecided(error.to_string()),
    }
}
