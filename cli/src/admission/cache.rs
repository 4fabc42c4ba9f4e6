//! Verified evidence by image digest: fetched once however many ask, kept for minutes.
//!
//! What is kept is evidence, not decisions: these are made anew each time, with the time and place of each
//! review. Evidence is only ever as good as policy and trust roots that it was verified by, so the cache
//! belongs to one set of [`Rules`](super::Rules) and goes with it.
//!
//! A fetch goes on when whoever asked for it has given up, so that the next one finds it.

use crate::judge::{Gathered, Missed};
use countersign_policy::Content;
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use metrics::counter;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long evidence is used, and how many are kept.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Evidence that lets an image in is used for so long. What is new within that time, a scan that found
    /// something for example, is seen after it.
    pub(super) fresh: Duration,
    /// Evidence that does not let an image in is used for so long: somebody may be signing right now.
    pub(super) negative: Duration,
    /// Evidence that was complete is used for so long while its registry fails: a night.
    pub(super) stale: Duration,
    /// How long such evidence waits for a registry that neither answers nor fails.
    pub(super) patience: Duration,
    /// How long a fetch may take that nobody waits for any more.
    pub(super) longest: Duration,
    /// Images of which evidence is kept.
    pub(super) entries: usize,
    /// Bytes that are kept: evidence as JSON, the statements that conditions look at, and what is beside them.
    pub(super) bytes: usize,
    /// Fetches under way.
    pub(super) fetches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(5 * 60),
            negative: Duration::from_secs(5),
            stale: Duration::from_secs(12 * 3600),
            patience: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            entries: 4096,
            bytes: 128 << 20,
            fetches: 1024,
        }
    }
}

/// An image: registry and repository, and its digest.
pub(super) type Key = (String, String);

/// What was fetched about one image.
pub(super) struct Found {
    /// The evidence; an error where it is not even known what there might be.
    pub(super) gathered: Result<Gathered, Missed>,
    /// SHA-256 of the evidence as JSON: two decisions by the same evidence have the same.
    pub(super) digest: [u8; 32],
    bytes: usize,
}

impl Found {
    fn new(gathered: Result<Gathered, Missed>) -> Self {
        let json = match &gathered {
            Ok(gathered) => {
                let missed = gathered.missed.as_ref().map(|missed| missed.why);
                serde_json::to_vec(&(&gathered.evidence, missed)).unwrap_or_default()
            }
            Err(missed) => missed.what.clone().into_bytes(),
        };
        let beside = gathered.as_ref().map_or(0, |gathered| {
            let statements = gathered.evidence.iter().map(|one| match &one.content {
                Content::Attestation { statement, .. } => statement.size(),
                Content::Signature | Content::Unknown => 0,
            });
            let rejected = gathered.rejected.iter().map(|(name, why)| name.len() + why.len());
            let platforms = gathered.platforms.iter().map(|digest| digest.as_str().len());
            statements.chain(rejected).chain(platforms).sum()
        });
        let digest = HashAlgorithm::Sha256.digest(&json);
        let digest = digest.as_slice().try_into().expect("SHA-256 has 32 bytes");
        Self { gathered, digest, bytes: json.len() + beside }
    }

    /// What was not read.
    fn missed(&self) -> Option<&Missed> {
        self.gathered.as_ref().map_or_else(Some, |gathered| gathered.missed.as_ref())
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", hex(&self.digest))
    }
}

/// What is to be used.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) found: Arc<Found>,
    /// It is from before, and whether it is still so could not be found out: why, a sentence.
    pub(super) failed: Option<Arc<str>>,
}

type Fetch = Shared<BoxFuture<'static, Hit>>;

#[derive(Default)]
struct Entry {
    known: Option<Known>,
    /// Under way, and since when.
    fetch: Option<(Fetch, Instant)>,
    used: Option<Instant>,
}

struct Known {
    found: Arc<Found>,
    since: Instant,
    /// When the registry last failed to say whether this is still so, and how.
    failed: Option<(Instant, Arc<str>)>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    fetches: usize,
}

/// The cache.
pub(super) struct Cache {
    limits: Limits,
    state: Mutex<State>,
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// How long evidence that does not let an image in is used.
    pub(super) fn negative(&self) -> Duration {
        self.limits.negative
    }

    /// How long evidence that lets an image in is used.
    pub(super) fn fresh(&self) -> Duration {
        self.limits.fresh
    }

    /// Evidence about `key` that is at most so old. `None` when too many fetches are under way already.
    pub(super) async fn get<F>(
        self: &Arc<Self>,
        key: &Key,
        at_most: Duration,
        gather: impl FnOnce() -> F,
    ) -> Option<Hit>
    where
        F: Future<Output = Result<Gathered, Missed>> + Send + 'static,
    {
        let (fetch, stale) = {
            let mut state = self.state.lock();
            let State { entries, fetches, .. } = &mut *state;
            if *fetches >= self.limits.fetches && !entries.contains_key(key) {
                return None;
            }
            let entry = entries.entry(key.clone()).or_default();
            let now = Instant::now();
            entry.used = Some(now);
            let stale = match &entry.known {
                Some(known) if self.serves(known, now, at_most) => {
                    counter!("countersign_admission_evidence_total", "from" => "cache")
                        .increment(1);
                    let failed = known.failed.as_ref().map(|(_, why)| Arc::clone(why));
                    return Some(Hit { found: Arc::clone(&known.found), failed });
                }
                Some(known) if self.is_usable(known, now) => {
                    let failed = Some("the registry has not answered yet".into());
                    Some(Hit { found: Arc::clone(&known.found), failed })
                }
                _ => None,
            };
            let fetch = match &entry.fetch {
                Some(fetch) => fetch.clone(),
                None if *fetches >= self.limits.fetches => return stale,
                None => {
                    *fetches += 1;
                    let fetch = (self.fetch(key.clone(), gather()), now);
                    entry.fetch = Some(fetch.clone());
                    fetch
                }
            };
            (fetch, stale)
        };
        let (fetch, began) = fetch;
        let Some(stale) = stale else { return Some(fetch.await) };
        match timeout_at(began + self.limits.patience, fetch).await {
            Ok(found) => Some(found),
            Err(_) => {
                counter!("countersign_admission_evidence_total", "from" => "stale").increment(1);
                Some(stale)
            }
        }
    }

    /// Whether it is used without asking anybody.
    fn serves(&self, known: &Known, now: Instant, at_most: Duration) -> bool {
        match &known.failed {
            Some((failed, _)) => now - *failed < self.limits.negative && self.is_usable(known, now),
            None => now - known.since < at_most,
        }
    }

    /// Whether it is used when its registry fails.
    fn is_usable(&self, known: &Known, now: Instant) -> bool {
        known.found.missed().is_none() && now - known.since < self.limits.stale
    }

    /// Fetches in a task of its own, which ends by itself.
    fn fetch(
        self: &Arc<Self>,
        key: Key,
        gather: impl Future<Output = Result<Gathered, Missed>> + Send + 'static,
    ) -> Fetch {
        counter!("countersign_admission_evidence_total", "from" => "registry").increment(1);
        let (cache, longest) = (Arc::clone(self), self.limits.longest);
        let missed = |what: &str, away| Err(Missed { why: "network", what: what.to_owned(), away });
        let failed = move || missed("verifying failed; see the log", false);
        let task = tokio::spawn(async move {
            // A panic is stored, too: whether or not anybody waits, the fetch has ended.
            let gathered = timeout(longest, AssertUnwindSafe(gather).catch_unwind()).await;
            let gathered = match gathered {
                Ok(gathered) => gathered.unwrap_or_else(|_| failed()),
                Err(_) => {
                    let what = format!("the registry took longer than {} s", longest.as_secs());
                    missed(&what, true)
                }
            };
            cache.store(&key, gathered)
        });
        let aborted = move |_| Hit { found: Arc::new(Found::new(failed())), failed: None };
        async move { task.await.unwrap_or_else(aborted) }.boxed().shared()
    }

    /// Keeps what was fetched, unless what is there is better; says what is to be used.
    fn store(&self, key: &Key, gathered: Result<Gathered, Missed>) -> Hit {
        let found = Arc::new(Found::new(gathered));
        let mut state = self.state.lock();
        let state = &mut *state;
        state.fetches = state.fetches.saturating_sub(1);
        let now = Instant::now();
        let entry = state.entries.entry(key.clone()).or_default();
        entry.fetch = None;
        entry.used = Some(now);
        if let Some(known) = &mut entry.known
            && let Some(missed) = found.missed().filter(|missed| missed.away)
            && self.is_usable(known, now)
        {
            let why: Arc<str> = missed.what.as_str().into();
            known.failed = Some((now, Arc::clone(&why)));
            counter!("countersign_admission_evidence_total", "from" => "stale").increment(1);
            return Hit { found: Arc::clone(&known.found), failed: Some(why) };
        }
        // What is so large would take the place of all others, and not stay itself.
        if found.bytes > self.limits.bytes / 2 {
            let before = entry.known.take().map_or(0, |before| before.found.bytes);
            state.bytes -= before;
            return Hit { found, failed: None };
        }
        state.bytes += found.bytes;
        let known = Known { found: Arc::clone(&found), since: now, failed: None };
        if let Some(before) = entry.known.replace(known) {
            state.bytes -= before.found.bytes;
        }
        self.evict(state);
        Hit { found, failed: None }
    }

    /// Drops what was used least lately until there is room.
    fn evict(&self, state: &mut State) {
        while state.entries.len() > self.limits.entries || state.bytes > self.limits.bytes {
            let idle = state.entries.iter().filter(|(_, entry)| entry.fetch.is_none());
            let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(dropped) = oldest.and_then(|key| state.entries.remove(&key)) else { return };
            state.bytes -= dropped.known.map_or(0, |known| known.found.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Evidence is told apart by what was rejected beside it, so that no bundle is needed.
    fn named(name: &str) -> Result<Gathered, Missed> {
        Ok(Gathered { rejected: vec![(name.to_owned(), String::new())], ..Gathered::default() })
    }

    fn away(what: &str) -> Missed {
        Missed { why: "network", what: what.to_owned(), away: true }
    }

    fn missed() -> Result<Gathered, Missed> {
        let missed = Some(away("the registry is away"));
        Ok(Gathered { missed, ..Gathered::default() })
    }

    /// The registry answered, with more than is read.
    fn too_many() -> Result<Gathered, Missed> {
        let missed = Some(Missed { why: "limit", what: "too many".to_owned(), away: false });
        Ok(Gathered { missed, ..Gathered::default() })
    }

    fn name(hit: &Hit) -> &str {
        match &hit.found.gathered {
            Ok(Gathered { missed: Some(_), .. }) => "missed",
            Ok(gathered) => &gathered.rejected[0].0,
            Err(missed) => &missed.what,
        }
    }

    fn key(name: &str) -> Key {
        (name.to_owned(), "sha256:00".to_owned())
    }

    const EVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn fifty_who_ask_at_once_cause_one_fetch_which_outlives_those_who_gave_up() {
        let (cache, count) = (Cache::new(Limits::default()), Arc::new(AtomicUsize::new(0)));
        let (let_go, held) = tokio::sync::watch::channel(());
        let ask = || {
            let (cache, count, mut held) = (Arc::clone(&cache), Arc::clone(&count), held.clone());
            tokio::spawn(async move {
                let gather = || async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    held.changed().await.unwrap();
                    named("one")
                };
                cache.get(&key("a"), EVER, gather).await.unwrap()
            })
        };
        ask().abort();
        let gone = ask();
        tokio::task::yield_now().await;
        gone.abort();
        let asked: Vec<_> = (0..50).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        let_go.send(()).unwrap();
        for asked in asked {
            assert_eq!(name(&asked.await.unwrap()), "one");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let alone = Arc::clone(&cache);
        let gather = || async {
            tokio::task::yield_now().await;
            named("b")
        };
        let alone = tokio::spawn(async move { alone.get(&key("b"), EVER, gather).await });
        tokio::task::yield_now().await;
        alone.abort();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(cache.state.lock().entries[&key("b")].known.is_some(), "though nobody waits");
    }

    #[tokio::test]
    async fn what_is_known_outlives_its_registry_and_what_is_not_known_does_not_begin_to_be() {
        let nothing = Duration::ZERO;
        let limits = |stale, negative| Limits { stale, negative, ..Limits::default() };
        for (limits, first, then, (expected, fetched)) in [
            (limits(EVER, nothing), named("good"), missed(), ("good", false)),
            (limits(EVER, nothing), named("good"), Err(away("away")), ("good", false)),
            (limits(EVER, nothing), named("good"), too_many(), ("missed", true)),
            (limits(nothing, nothing), named("good"), missed(), ("missed", true)),
            (limits(EVER, nothing), named("good"), named("newer"), ("newer", true)),
            (limits(EVER, nothing), missed(), Err(away("away")), ("away", true)),
            (limits(EVER, nothing), missed(), named("good"), ("good", true)),
        ] {
            let cache = Cache::new(limits);
            cache.get(&key("a"), EVER, || async { first }).await.unwrap();
            let found = cache.get(&key("a"), nothing, || async { then }).await.unwrap();
            assert_eq!(name(&found), expected);
            assert_eq!(found.failed.is_some(), expected == "good" && !fetched, "it is told");
        }
        // After a failure the registry is left alone for a while.
        let cache = Cache::new(limits(EVER, EVER));
        cache.get(&key("a"), EVER, || async { named("good") }).await.unwrap();
        for _ in 0..2 {
            let found = cache.get(&key("a"), nothing, || async { missed() }).await.unwrap();
            assert_eq!(name(&found), "good");
        }
        let asked = cache.get(&key("a"), nothing, || async { panic!("not so soon") }).await;
        assert_eq!(name(&asked.unwrap()), "good");
    }

    #[tokio::test]
    async fn a_registry_that_hangs_does_not_hold_up_what_is_known() {
        let limits = Limits { patience: Duration::ZERO, ..Limits::default() };
        let cache = Cache::new(limits);
        cache.get(&key("a"), EVER, || async { named("good") }).await.unwrap();
        let hangs = || std::future::pending::<Result<Gathered, Missed>>();
        let found = cache.get(&key("a"), Duration::ZERO, hangs).await.unwrap();
        assert_eq!(name(&found), "good");
        assert!(found.failed.is_some(), "it is told, so that it refuses nothing");
    }

    #[tokio::test]
    async fn a_check_that_panics_is_no_evidence_and_no_end() {
        let cache = Cache::new(Limits::default());
        let found = cache.get(&key("a"), EVER, || async { panic!("on purpose") }).await.unwrap();
        assert_eq!(name(&found), "verifying failed; see the log");
        let found = cache.get(&key("a"), Duration::ZERO, || async { named("good") }).await;
        assert_eq!(name(&found.unwrap()), "good");
    }

    #[tokio::test]
    async fn the_cache_is_bounded_in_entries_in_bytes_and_in_fetches() {
        let bytes = Found::new(named("a")).bytes;
        assert_eq!(Found::new(named("abc")).bytes, bytes + 2, "what is no evidence counts, too");
        for limits in [
            Limits { entries: 2, ..Limits::default() },
            Limits { bytes: 2 * bytes, ..Limits::default() },
        ] {
            let cache = Cache::new(limits);
            for name in ["a", "b", "a", "c"] {
                cache.get(&key(name), EVER, || async { named(name) }).await.unwrap();
            }
            let state = cache.state.lock();
            let mut kept: Vec<_> = state.entries.keys().map(|(name, _)| name.as_str()).collect();
            kept.sort_unstable();
            assert_eq!((kept, state.bytes), (vec!["a", "c"], 2 * bytes), "b was used least lately");
        }
        let cache = Cache::new(Limits { fetches: 1, ..Limits::default() });
        let slow = Arc::clone(&cache);
        let hangs = || std::future::pending::<Result<Gathered, Missed>>();
        let first = tokio::spawn(async move { slow.get(&key("a"), EVER, hangs).await });
        tokio::task::yield_now().await;
        assert!(cache.get(&key("b"), EVER, || async { named("b") }).await.is_none());
        assert_eq!(cache.state.lock().entries.len(), 1, "nor is it remembered");
        first.abort();
    }
}
