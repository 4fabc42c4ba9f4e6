//! Admission to a cluster: what an API server and its like are answered about the images of an object.
//!
//! ```text
//! review -> its images -> evidence about each, cached -> one decision about each -> answer
//! ```
//! `mutate` writes the digest that a tag means into the object and never says no. `validate` decides about
//! what the object has become. Each image is looked up once a review, all at the same time, until the
//! deadline: what is not known by then is undecided, which is never yes.
//!
//! What a controller makes out of a template, such as the replica sets of a deployment, is not written into:
//! the controller would not know it again, and make another. Its tags are judged by what they mean now, and
//! its pods are pinned.
//!
//! Tags are not cached. With tags pinned, `mutate` resolves each once and all else goes by the digest; without,
//! a tag that was moved must show at once.

mod answer;
mod cache;
mod hosts;
pub(crate) mod http;
mod rules;

pub(crate) use rules::{Deadline, Judged, Rules, Tags, watched};

use crate::config::admission::Config;
use crate::failure::Failure;
use countersign_policy::admission::{Answer, Error, MAX_REVIEW, Operation, Place, Review, Verdict};
use futures_util::{StreamExt as _, stream};
use metrics::counter;
use parking_lot::RwLock;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many images of one review are looked up at the same time. Pods have a handful.
const AT_ONCE: usize = 8;

/// Admission as it runs, with the rules of the last reload that did.
pub(crate) struct Admission {
    rules: RwLock<Arc<Rules>>,
}

impl Admission {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules: RwLock::new(Arc::new(rules)) }
    }

    /// What decides now. A review keeps what it began with.
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// Decides by `config` from now on, with nothing cached; if it does not do, all stays as it is. Name
    /// and serial number of the policy.
    pub(crate) fn reload(&self, config: Config) -> Result<(String, u64), Failure> {
        if self.rules().config().server != config.server {
            return Err(Failure::unclear("\"listen\" and [tls] change with a restart only")
                .hint("the files that [tls] names are read again when they change"));
        }
        let rules = Rules::load(config)?;
        let shown = rules.shown();
        *self.rules.write() = Arc::new(rules);
        Ok(shown)
    }
}

/// The answer to a review: whether its object may come in.
async fn validate_review(rules: &Rules, json: &[u8], deadline: Deadline) -> Result<String, Error> {
    let review = match Review::parse(json, rules.kinds()) {
        Ok(review) => review,
        Err(error) => {
            let unread = Unread::of(json).ok_or_else(|| error.clone())?;
            let (uid, why) = (unread.uid, error.to_string());
            tracing::info!(uid, dry_run = unread.dry_run, why, "refused");
            let verdict = Verdict::Refused(why);
            if !unread.dry_run {
                count("validate", &verdict);
            }
            return Ok(Answer::new(verdict).to_json(&uid));
        }
    };
    if !review.dry_run {
        counter!("countersign_admission_unknown_members_total")
            .increment(review.unknown.len() as u64);
    }
    let passes = passes(rules, &review);
    let images = match passes {
        Some(_) => BTreeSet::new(),
        None => images(&review, rules.checks_unchanged()),
    };
    let pinned = rules.pins_tags() && !review.owned;
    let unchanged: BTreeSet<&str> = review
        .places
        .iter()
        .filter(|place| review.is_unchanged(place))
        .map(|place| place.image.as_str())
        .collect();
    let (unchanged, namespace) = (&unchanged, review.namespace.as_deref());
    let judge = |image: String| async move {
        // The mutating webhook leaves an unchanged image as it is.
        let pinned = pinned && !unchanged.contains(image.as_str());
        let tags = if pinned { Tags::Refused } else { Tags::Resolved };
        rules.judge(&image, namespace, tags, deadline).await
    };
    let judged: Vec<Judged> = stream::iter(images).map(judge).buffered(AT_ONCE).collect().await;
    let mut answer = answer::of(&review, &judged);
    if let Some(why) = passes {
        answer.audit.insert("let-through".to_owned(), why.to_owned());
    }
    tell(&review, &answer, &judged);
    Ok(answer.to_json(&review.uid))
}

/// The answer to a review: the digests that the tags of its object mean. It never says no, because what
/// is not pinned is refused where it is decided.
async fn mutate_review(rules: &Rules, json: &[u8], deadline: Deadline) -> Result<String, Error> {
    let mut answer = Answer::new(Verdict::Allowed);
    let review = match Review::parse(json, rules.kinds()) {
        Ok(review) => review,
        Err(error) => {
            let Unread { uid, .. } = Unread::of(json).ok_or(error)?;
            return Ok(answer.to_json(&uid));
        }
    };
    let pins = rules.pins_tags() && !review.owned && passes(rules, &review).is_none();
    // What is unchanged runs already: another name would start it anew.
    let images = if pins { images(&review, false) } else { BTreeSet::new() };
    let pin = |image: String| async move {
        let pinned = rules.pin(&image, deadline).await;
        (image, pinned)
    };
    let pinned: Vec<_> = stream::iter(images).map(pin).buffered(AT_ONCE).collect().await;
    let mut digests = BTreeMap::new();
    for (image, pinned) in pinned {
        match pinned {
            Ok(pinned) => drop(digests.insert(image, pinned)),
            Err(why) => {
                let image = answer::short(&image);
                answer.warnings.push(format!("{image} was not pinned: {why}"));
            }
        }
    }
    answer.patch = review.patch(&digests);
    if !review.dry_run {
        count("mutate", &answer.verdict);
    }
    Ok(answer.to_json(&review.uid))
}

/// Why nothing of the review is looked at, if nothing is.
///
/// Admission's own namespace: its pods must start for there to be an answer at all. The manifests do not
/// send such reviews in the first place; who registers the webhook without that is not locked out either.
/// It opens nothing: whoever may make pods there can read the webhook's key and answer in its place.
fn passes(rules: &Rules, review: &Review) -> Option<&'static str> {
    if matches!(review.operation, Operation::Delete | Operation::Connect) {
        return Some("nothing comes in");
    }
    let own = rules.config().own_namespace.as_deref();
    (own.is_some() && own == review.namespace.as_deref()).then_some("own namespace")
}

/// The images that are looked at, each once: `all`, or those that an update brings.
fn images(review: &Review, all: bool) -> BTreeSet<String> {
    let looked_at = |place: &&Place| all || !review.is_unchanged(place);
    review.places.iter().filter(looked_at).map(|place| place.image.clone()).collect()
}

/// Of a review that cannot be read what its answer must repeat: otherwise the API server shows its own
/// error instead of ours.
struct Unread {
    uid: String,
    dry_run: bool,
}

impl Unread {
    fn of(json: &[u8]) -> Option<Self> {
        if json.len() > MAX_REVIEW {
            return None;
        }
        let json: Value = serde_json::from_slice(json).ok()?;
        let uid = json.pointer("/request/uid")?.as_str()?.to_owned();
        let dry_run = json.pointer("/request/dryRun").and_then(Value::as_bool);
        Some(Self { uid, dry_run: dry_run.unwrap_or_default() })
    }
}

fn count(webhook: &'static str, verdict: &Verdict) {
    let verdict = match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Refused(_) => "refused",
        Verdict::Undecided(_) => "undecided",
    };
    counter!("countersign_admission_reviews_total", "webhook" => webhook, "verdict" => verdict)
        .increment(1);
}

/// One line about what was decided, and the counters; nothing is counted for a dry run.
fn tell(review: &Review, answer: &Answer, judged: &[Judged]) {
    let namespace = review.namespace.as_deref().unwrap_or_default();
    let name = review.name.as_deref().unwrap_or_default();
    let (kind, dry_run, uid) = (&review.kind, review.dry_run, &review.uid);
    let decisions: Vec<_> = judged.iter().filter_map(|judged| judged.id.as_deref()).collect();
    let decisions = decisions.join(" ");
    match &answer.verdict {
        Verdict::Allowed => {
            tracing::info!(kind, namespace, name, dry_run, uid, decisions, "allowed");
        }
        Verdict::Refused(why) => {
            tracing::info!(kind, namespace, name, dry_run, uid, decisions, why, "refused");
        }
        Verdict::Undecided(why) => {
            tracing::warn!(kind, namespace, name, dry_run, uid, decisions, why, "undecided");
        }
    }
    if !dry_run {
        count("validate", &answer.verdict);
    }
}
