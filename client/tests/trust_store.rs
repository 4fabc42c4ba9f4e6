//! Trust refresh against repositories made here, good ones and hostile ones.

use countersign_client::trust_store::{
    Age, Change, Error, GRACE, REFRESH_AFTER, Source, Start, Store, Stored, fetch_root, init,
    init_file, update,
};
use countersign_testkit::Instance;
use countersign_testkit::tuf::{Behaviour, Repository, Server, key};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tempfile::TempDir;
use url::Url;

const LIMIT: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(10);

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A repository with a trusted root, its server, and a folder for the cache.
struct Case {
    repository: Repository,
    server: Server,
    dir: TempDir,
    store: Store,
}

impl Case {
    fn new() -> Self {
        let root = Instance::new().trusted_root().into_bytes();
        let repository = Repository::new(now() + hours(48), [("trusted_root.json", root)]);
        let server = Server::start(&repository.served);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("trust"));
        Self { repository, server, dir, store }
    }

    fn url(&self) -> Url {
        self.server.url.parse().unwrap()
    }

    fn start(&self) -> Start {
        let root = self.repository.served["1.root.json"].clone();
        Start { url: self.url(), root, source: Source::RootFile }
    }

    async fn init(&self) -> Result<(Stored, Change), Error> {
        init(&self.store, &self.start(), now(), LIMIT).await
    }

    /// Serves the repository as it is and refreshes at `time`.
    async fn update_at(&self, stored: &Stored, time: Timestamp) -> Result<Change, Error> {
        self.server.serve(&self.repository.served);
        update(stored, time, LIMIT, WAIT).await
    }

    async fn update(&self, stored: &Stored) -> Result<Change, Error> {
        self.update_at(stored, now()).await
    }
}

/// What TUF said of a refusal, and that it is one.
#[track_caller]
fn refused(result: Result<Change, Error>, expected: &str) {
    let error = result.unwrap_err();
    assert!(error.to_string().contains(expected), "expected {expected:?} in: {error}");
    assert!(error.is_refusal(), "{error}");
}

fn other_root() -> Vec<u8> {
    Instance::new().trusted_root().into_bytes()
}

#[tokio::test]
async fn a_first_refresh_and_the_next_one_bring_what_the_repository_signs() {
    let mut case = Case::new();
    let (stored, change) = case.init().await.unwrap();
    assert!(change.before.is_none());
    assert_eq!(stored.trusted_root().unwrap(), case.repository.files["trusted_root.json"]);
    assert_eq!(stored.signing_config().unwrap(), None, "optional");
    assert_eq!(case.store.default_instance().unwrap(), Some(stored.clone()));
    let with_slash = format!("{}/", case.url()).parse().unwrap();
    assert_eq!(case.store.by_url(&with_slash).unwrap(), Some(stored.clone()));
    assert_eq!(case.store.by_url(&"http://127.0.0.1:1".parse().unwrap()).unwrap(), None);

    case.repository.files.insert("trusted_root.json".to_owned(), other_root());
    case.repository.advance();
    let later = now() + hours(1);
    let change = case.update_at(&stored, later).await.unwrap();
    assert_ne!(change.before.unwrap().trusted_root, change.after.trusted_root);
    assert_eq!(change.after.refreshed, later);
    assert_eq!(change.after.expires, Some(case.repository.expires));
    assert_eq!(stored.trusted_root().unwrap(), case.repository.files["trusted_root.json"]);
}

#[tokio::test]
async fn roots_are_followed_one_by_one_and_only_with_the_old_ones_signature() {
    let mut case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    case.repository.rotate();
    case.repository.rotate();
    let change = case.update(&stored).await.unwrap();
    assert_eq!(change.after.versions.unwrap().root, 3);
    // The chain is kept: the next refresh starts where this one ended.
    case.server.asked.lock().unwrap().clear();
    case.update(&stored).await.unwrap();
    assert!(!case.server.asked.lock().unwrap().contains(&"2.root.json".to_owned()));

    let before = stored.state().unwrap();
    case.repository.root_key = key();
    case.repository.root += 1;
    case.repository.publish_root(&[]);
    refused(case.update(&stored).await, "signature threshold not met for role root");
    assert_eq!(stored.state().unwrap(), before);
}

#[tokio::test]
async fn a_verified_root_is_kept_although_the_refresh_fails_later() {
    let mut case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    case.repository.rotate();
    let old = case.repository.served.clone();
    case.repository.served.insert("timestamp.json".to_owned(), b"{}".to_vec());
    case.update(&stored).await.unwrap_err();
    // From here on a root 2 that is missing cannot take it back: root 3 is asked for.
    case.repository.served = old;
    case.server.asked.lock().unwrap().clear();
    case.update(&stored).await.unwrap();
    assert_eq!(case.server.asked.lock().unwrap()[0], "3.root.json");
}

#[tokio::test]
async fn nothing_goes_back_to_an_older_version() {
    type Back = fn(&mut Repository);
    let cases: [(Back, &str); 3] = [
        (|r| r.timestamp -= 1, "rollback detected for timestamp"),
        (
            |r| {
                r.timestamp += 1;
                r.snapshot -= 1;
            },
            "rollback detected for snapshot",
        ),
        (
            |r| {
                r.timestamp += 1;
                r.snapshot += 1;
                r.targets -= 1;
            },
            "rollback detected for targets.json",
        ),
    ];
    for (back, expected) in cases {
        let mut case = Case::new();
        case.repository.advance();
        case.repository.advance();
        case.server.serve(&case.repository.served);
        let (stored, _) = case.init().await.unwrap();
        let before = stored.state().unwrap();
        back(&mut case.repository);
        case.repository.publish();
        refused(case.update(&stored).await, expected);
        // Nor after what is kept has expired.
        case.repository.expires = now() + hours(24 * 90);
        case.repository.publish();
        refused(case.update_at(&stored, now() + hours(24 * 60)).await, expected);
        assert_eq!(stored.state().unwrap(), before);
        assert!(stored.trusted_root().is_ok());
    }
}

#[tokio::test]
async fn expired_metadata_is_not_taken_and_age_is_told_in_three_steps() {
    let case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    let expired = case.repository.expires;
    let late = expired + hours(1);
    refused(case.update_at(&stored, late).await, "timestamp metadata expired");
    let state = stored.state().unwrap();
    let second = SignedDuration::from_secs(1);
    for (time, age) in [
        (expired, Age::Fresh),
        (expired + second, Age::Stale { expired }),
        (expired + GRACE, Age::Stale { expired }),
        (expired + GRACE + second, Age::Expired { expired }),
    ] {
        assert_eq!(state.age(time), age, "{time}");
    }
    assert!(!state.is_due(now() + REFRESH_AFTER));
    assert!(state.is_due(now() + REFRESH_AFTER + second));
    assert!(state.is_due(now() - second), "a refresh from the future says nothing");

    let (other, fresh) = (Case::new(), tempfile::tempdir().unwrap());
    let store = Store::new(fresh.path().to_owned());
    let late = other.repository.expires + second;
    assert!(init(&store, &other.start(), late, LIMIT).await.is_err());
    assert_eq!(store.default_instance().unwrap(), None);
}

#[tokio::test]
async fn a_target_of_another_hash_or_length_is_refused() {
    let other = |bytes: &[u8]| bytes.iter().map(|b| b.wrapping_add(1)).collect::<Vec<u8>>();
    let shorter = |bytes: &[u8]| bytes[1..].to_vec();
    for change in [&other as &dyn Fn(&[u8]) -> Vec<u8>, &shorter] {
        let mut case = Case::new();
        let (stored, _) = case.init().await.unwrap();
        let before = stored.state().unwrap();
        case.repository.files.insert("trusted_root.json".to_owned(), other_root());
        case.repository.advance();
        let path = case.repository.target_path("trusted_root.json");
        let wrong = change(&case.repository.served[&path]);
        case.repository.served.insert(path, wrong);
        refused(case.update(&stored).await, "integrity check failed");
        assert_eq!(stored.state().unwrap(), before);
    }
}

#[tokio::test]
async fn a_signed_target_that_our_reader_refuses_does_not_replace_a_good_one() {
    for (name, bytes) in
        [("trusted_root.json", &b"{}"[..]), ("signing_config.v0.2.json", br#"{"mediaType":"x"}"#)]
    {
        let mut case = Case::new();
        let (stored, _) = case.init().await.unwrap();
        let before = stored.trusted_root().unwrap();
        case.repository.files.insert(name.to_owned(), bytes.to_vec());
        case.repository.advance();
        refused(case.update(&stored).await, name);
        assert_eq!(stored.trusted_root().unwrap(), before);
    }
}

#[tokio::test]
async fn another_root_or_fingerprint_than_the_given_one_is_refused() {
    let case = Case::new();
    let root = case.repository.root_json();
    let digest: [u8; 32] =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &root).as_ref().try_into().unwrap();
    assert_eq!(fetch_root(&case.url(), &digest, LIMIT).await.unwrap(), root);
    let error = fetch_root(&case.url(), &[7; 32], LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::Fingerprint { .. }) && error.is_refusal(), "{error}");

    let foreign = Repository::new(now() + hours(48), []).root_json();
    let start = Start { root: foreign, ..case.start() };
    let error = init(&case.store, &start, now(), LIMIT).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert_eq!(case.store.default_instance().unwrap(), None);
    case.init().await.unwrap();
    let error = init(&case.store, &start, now(), LIMIT).await.unwrap_err();
    assert!(matches!(error, Error::OtherRoot { .. }), "{error}");
}

#[tokio::test]
async fn endless_data_and_silence_are_bounded() {
    let case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    let before = stored.state().unwrap();
    for path in ["2.root.json", "timestamp.json"] {
        case.server.behave(Behaviour::Endless(path.to_owned()));
        let error = case.update(&stored).await.unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }
    case.server.behave(Behaviour::Silent);
    let start = std::time::Instant::now();
    let second = Duration::from_secs(1);
    let error = update(&stored, now(), second, WAIT).await.unwrap_err();
    assert!(matches!(error, Error::Slow { .. }) && !error.is_refusal(), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(stored.state().unwrap(), before);
}

#[tokio::test]
async fn a_repository_that_is_away_leaves_trust_as_it_was() {
    let case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    let before = (stored.state().unwrap(), stored.trusted_root().unwrap());
    case.server.serve(&Default::default());
    let error = update(&stored, now(), LIMIT, WAIT).await.unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    assert_eq!((stored.state().unwrap(), stored.trusted_root().unwrap()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_refreshes_at_once_and_readers_meanwhile_see_whole_files() {
    let mut case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    for _ in 0..5 {
        case.repository.files.insert("trusted_root.json".to_owned(), other_root());
        case.repository.advance();
        case.server.serve(&case.repository.served);
        let updates: Vec<_> = (0..4)
            .map(|_| {
                let stored = stored.clone();
                // A lock is waited for on its own thread, as another process would.
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(update(&stored, now(), LIMIT, WAIT)).unwrap();
                })
            })
            .collect();
        while !updates.iter().all(std::thread::JoinHandle::is_finished) {
            countersign_verify::TrustedRoot::parse(&stored.trusted_root().unwrap()).unwrap();
        }
        for update in updates {
            update.join().unwrap();
        }
        assert_eq!(stored.trusted_root().unwrap(), case.repository.files["trusted_root.json"]);
    }
}

#[tokio::test]
async fn what_a_killed_refresh_leaves_does_no_harm() {
    let mut case = Case::new();
    let (stored, _) = case.init().await.unwrap();
    let kept = |name: &str| stored.dir().join(name);
    let old_state = std::fs::read(kept("state.json")).unwrap();
    std::fs::write(kept(".countersign-half"), b"{\"refr").unwrap();
    case.repository.files.insert("trusted_root.json".to_owned(), other_root());
    case.repository.advance();
    case.update(&stored).await.unwrap();
    assert!(!kept(".countersign-half").exists());
    // Killed after the metadata was put in place and before the state was.
    std::fs::write(kept("state.json"), old_state).unwrap();
    assert!(stored.trusted_root().is_ok());
    let change = case.update(&stored).await.unwrap();
    assert_eq!(change.after.versions.unwrap().targets, 2);
    assert_eq!(stored.trusted_root().unwrap(), case.repository.files["trusted_root.json"]);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_not_used() {
    let case = Case::new();
    let (stored, change) = case.init().await.unwrap();
    for file in [format!("{}.json", change.after.trusted_root), "state.json".to_owned()] {
        std::fs::write(stored.dir().join(&file), b"{").unwrap();
        let error = stored.trusted_root().unwrap_err();
        assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with(&file)), "{error}");
    }
    std::fs::write(case.store.dir().join("default"), b"../elsewhere").unwrap();
    assert!(matches!(case.store.default_instance(), Err(Error::Damaged { .. })));
    drop(case.dir);
}

#[tokio::test]
async fn an_instance_from_a_file_never_expires_and_cannot_be_refreshed() {
    let case = Case::new();
    let root = other_root();
    let (stored, change) = init_file(&case.store, None, &root, None, now()).unwrap();
    assert_eq!(stored.trusted_root().unwrap(), root);
    assert!(!change.after.is_due(now() + hours(24 * 999)));
    assert_eq!(change.after.age(now() + hours(24 * 999)), Age::Fresh);
    let error = update(&stored, now(), LIMIT, WAIT).await.unwrap_err();
    assert!(matches!(error, Error::NoRepository), "{error}");
    assert!(init_file(&case.store, None, b"{}", None, now()).is_err());
    let (pinned, _) = case.init().await.unwrap();
    let error = init_file(&case.store, Some(&case.url()), &root, None, now()).unwrap_err();
    assert!(matches!(error, Error::OtherRoot { .. }), "{error}");
    assert!(pinned.pin().unwrap().root.is_some());
}
