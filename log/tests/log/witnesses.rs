//! A log that asks witnesses before it publishes: what it publishes then, what dead ones change, and what
//! a restart finds.

use crate::cosigner::{NOW, Witness};
use crate::support::{Place, append, body, fill};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::{CheckpointLock as _, Source as _, Sqlite};
use countersign_log::witness::{Config, Lacking, Witnesses};
use countersign_log::{AppendError, Format, Log, OpenError, Options, freeze};
use countersign_verify::note::{Note, VerifierKey};
use countersign_verify::witness::{Policy, Refusal};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Longer than any answer here takes, so that who is waited for is not a matter of luck.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn three(log: VerifierKey) -> [Witness; 3] {
    let start = async |name| Witness::start(name, std::slice::from_ref(&log)).await;
    [start("w1.example").await, start("w2.example").await, start("w3.example").await]
}

pub(crate) fn policy(witnesses: &[Witness; 3]) -> Policy {
    let lines = witnesses.iter().zip(1..);
    let lines: String =
        lines.map(|(it, number)| format!("witness W{number} {} {}\n", it.key, it.url)).collect();
    Policy::parse(&format!("{lines}group G 2 W1 W2 W3\nquorum G\n")).unwrap()
}

pub(crate) fn asking(policy: &Policy, timeout: Duration, lacking: Lacking) -> Arc<Witnesses> {
    Arc::new(Witnesses::new(Config { policy: policy.clone(), timeout, lacking }).unwrap())
}

async fn open(place: &Place, witnesses: &Arc<Witnesses>) -> Log {
    place.with_witnesses(witnesses).open().await
}

async fn published(place: &Place) -> Note {
    let bytes = place.files().get("checkpoint").await.unwrap().unwrap();
    Note::parse(std::str::from_utf8(&bytes).unwrap()).unwrap()
}

#[tokio::test]
async fn cosignatures_stand_below_the_logs_signature_and_the_lock_has_none() {
    let place = Place::new();
    let key = place.key().verifier_key().unwrap();
    let witnesses = three(key.clone()).await;
    let policy = policy(&witnesses);
    for (from, to) in [(0, 1), (1, 2), (2, 300), (300, 301)] {
        // Each time as after a restart: what the witnesses have is found out by asking.
        let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
        fill(&log, from, to).await;
        let note = published(&place).await;
        assert_eq!(note.to_string(), log.head().note(), "answers and the file say the same");
        assert_eq!(note.signatures()[0].name, key.name(), "the log's own line is the first");
        assert_eq!(key.signed(&note), Ok(Some(0)));
        assert!(policy.check(&note).unwrap().len() >= 2, "{note}");
        let lock = Sqlite::open(&place.database()).await.unwrap().lock("log.example.test").await;
        let lock = Note::parse(&lock.unwrap().load().await.unwrap().unwrap()).unwrap();
        assert_eq!((lock.text(), lock.signatures().len()), (note.text(), 1));
        log.close().await;
        // A restart keeps what is published, even without witnesses.
        assert_eq!(place.open().await.head().note(), note.to_string());
    }
    assert_eq!(place.fsck().await.unwrap().size, 301);
}

#[tokio::test]
async fn one_dead_witness_of_three_changes_nothing_and_two_follow_the_policy() {
    for lacking in [Lacking::Publish, Lacking::Hold] {
        let place = Place::new();
        let mut witnesses = three(place.key().verifier_key().unwrap()).await;
        let policy = policy(&witnesses);
        let log = open(&place, &asking(&policy, PATIENCE, lacking)).await;
        fill(&log, 0, 3).await;
        witnesses[0].stop().await;
        fill(&log, 3, 6).await;
        assert_eq!(policy.check(&published(&place).await).unwrap(), ["W2", "W3"]);
        witnesses[2].stop().await;
        match (append(&log, &body(6)).await, lacking) {
            (Ok(appended), Lacking::Publish) => {
                assert_eq!(appended.index, 6);
                let too_few = policy.check(&published(&place).await).unwrap_err();
                let expected = "expected cosignatures by 2 of W1, W2, W3, found W2; missing W1, W3";
                assert_eq!(too_few.to_string(), expected);
            }
            (Err(AppendError::Held(refusal)), Lacking::Hold) => {
                assert!(
                    matches!(&*refusal, Refusal::TooFew { missing, .. } if *missing == ["W1", "W3"])
                );
                // Nothing of it is to be seen, and it is no different for the next one or after a restart.
                assert_eq!(log.head().checkpoint().size, 6);
                assert!(matches!(append(&log, b"more").await, Err(AppendError::Held(_))));
                log.close().await;
                let log = open(&place, &asking(&policy, PATIENCE, lacking)).await;
                assert_eq!(log.head().checkpoint().size, 6);
                assert!(matches!(append(&log, &body(6)).await, Err(AppendError::Held(_))));
                assert!(policy.check(&published(&place).await).is_ok());
                log.close().await;
            }
            (outcome, _) => panic!("{lacking:?}: {outcome:?}"),
        }
        witnesses[0].start_again().await;
        let log = match lacking {
            Lacking::Publish => log,
            Lacking::Hold => open(&place, &asking(&policy, PATIENCE, lacking)).await,
        };
        // The same entry again has its first place.
        assert_eq!(append(&log, &body(6)).await.unwrap().index, 6);
        fill(&log, 7, 9).await;
        assert_eq!(policy.check(&published(&place).await).unwrap(), ["W1", "W2"]);
        log.close().await;
        assert_eq!(place.fsck().await.unwrap().repeated, 0);
    }
}

#[tokio::test]
async fn a_held_tree_is_published_without_anybody_asking_once_its_witnesses_are_back() {
    let place = Place::new();
    let mut witnesses = three(place.key().verifier_key().unwrap()).await;
    let policy = policy(&witnesses);
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    fill(&log, 0, 1).await;
    witnesses[0].stop().await;
    witnesses[1].stop().await;
    assert!(matches!(append(&log, &body(1)).await, Err(AppendError::Held(_))));
    witnesses[1].start_again().await;
    while log.head().checkpoint().size < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(policy.check(&published(&place).await).is_ok());
}

#[tokio::test]
async fn a_witness_that_hangs_is_waited_for_once() {
    let place = Place::new();
    let witnesses = three(place.key().verifier_key().unwrap()).await;
    // Takes connections, and answers none of them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let policy = Policy::parse(&format!(
        "witness W1 {} {}\nwitness W2 {} {url}\ngroup G all W1 W2\nquorum G\n",
        witnesses[0].key, witnesses[0].url, witnesses[1].key
    ))
    .unwrap();
    let asking = asking(&policy, Duration::from_millis(300), Lacking::Publish);
    let log = open(&place, &asking).await;
    fill(&log, 0, 1).await;
    // Were it asked again for each, a connection would come for each.
    for number in 1..20 {
        fill(&log, number, number + 1).await;
    }
    let mut connections = 0;
    while tokio::time::timeout(Duration::from_millis(50), silent.accept()).await.is_ok() {
        connections += 1;
    }
    assert_eq!(connections, 1);
    let found = policy.check(&published(&place).await).unwrap_err().to_string();
    assert!(found.ends_with("found W1; missing W2"), "{found}");
}

#[tokio::test]
async fn a_log_put_back_to_an_older_state_gets_no_cosignature() {
    let place = Place::new();
    let witnesses = three(place.key().verifier_key().unwrap()).await;
    let policy = policy(&witnesses);
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    fill(&log, 0, 5).await;
    log.close().await;
    // The same key begins again elsewhere: a restored backup, or a thief.
    let fork = place.with_same_key();
    let log = open(&fork, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    for entry in [&b"another"[..], b"and more"] {
        assert!(matches!(append(&log, entry).await, Err(AppendError::Held(_))));
    }
    assert_eq!(log.head().checkpoint().size, 0);
}

#[tokio::test]
async fn the_end_of_a_log_is_cosigned_too() {
    let place = Place::new();
    let mut witnesses = three(place.key().verifier_key().unwrap()).await;
    let policy = policy(&witnesses);
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    fill(&log, 0, 3).await;
    witnesses[0].stop().await;
    witnesses[1].stop().await;
    // The same again finds the one end that was signed.
    for later in 0..2 {
        let held = log.freeze(Timestamp::from_second(NOW + later).unwrap()).await;
        assert!(matches!(held, Err(freeze::Error::Held(_))), "{held:?}");
    }
    drop(log);
    // It takes nothing, is read as before, and is published by the first restart that finds witnesses.
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    assert!(!log.head().is_frozen());
    assert!(matches!(append(&log, b"more").await, Err(AppendError::Closed)));
    log.close().await;
    witnesses[1].start_again().await;
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    log.close().await;
    assert!(log.head().is_frozen());
    let note = published(&place).await;
    assert!(note.text().contains("Log frozen") && policy.check(&note).is_ok(), "{note}");
}

#[tokio::test]
async fn the_end_of_a_log_that_was_held_is_published_by_the_same_order_again() {
    let place = Place::new();
    let mut witnesses = three(place.key().verifier_key().unwrap()).await;
    let policy = policy(&witnesses);
    let log = open(&place, &asking(&policy, PATIENCE, Lacking::Hold)).await;
    fill(&log, 0, 3).await;
    witnesses[0].stop().await;
    witnesses[1].stop().await;
    let freeze = async |time| log.freeze(Timestamp::from_second(time).unwrap()).await;
    assert!(matches!(freeze(NOW).await, Err(freeze::Error::Held(_))));
    assert!(log.is_held());
    witnesses[1].start_again().await;
    freeze(NOW + 86_400).await.unwrap();
    assert!(log.head().is_frozen() && !log.is_held());
    let note = published(&place).await;
    assert_eq!(
        (note.to_string(), policy.check(&note).is_ok()),
        (log.head().note().to_owned(), true)
    );
    let lock = Sqlite::open(&place.database()).await.unwrap().lock("log.example.test").await;
    let signed = Note::parse(&lock.unwrap().load().await.unwrap().unwrap()).unwrap();
    assert_eq!(signed.text(), note.text(), "one end");
}

#[tokio::test]
async fn logs_that_share_their_witnesses_do_not_mix_their_trees_up() {
    let (one, two) = (Place::new(), Place::named("other.example.test"));
    let keys = [&one, &two].map(|place| place.key().verifier_key().unwrap());
    let witness = Witness::start("w.example", &keys).await;
    let policy = format!("witness W {} {}\nquorum W\n", witness.key, witness.url);
    let asking = asking(&Policy::parse(&policy).unwrap(), PATIENCE, Lacking::Hold);
    let (one, two) = (open(&one, &asking).await, open(&two, &asking).await);
    for size in 1..5 {
        fill(&one, 3 * size - 3, 3 * size).await;
        fill(&two, size - 1, size).await;
    }
}

#[tokio::test]
async fn what_cannot_be_cosigned_is_refused_when_it_is_configured() {
    let place = Place::new();
    let witnesses = three(place.key().verifier_key().unwrap()).await;
    let (one, two) = (&witnesses[0], &witnesses[1]);
    for (policy, says) in [
        (
            format!("witness W1 {} ftp://w1.example\nquorum W1", one.key),
            "witness W1: expected a URL",
        ),
        (format!("witness W1 {}\nquorum W1", one.key), "missing W1"),
        (
            format!(
                "witness W1 {}\nwitness W2 {} {}\ngroup G all W1 W2\nquorum G",
                one.key, two.key, two.url
            ),
            "found W2; missing W1",
        ),
    ] {
        let policy = Policy::parse(&policy).unwrap();
        let refused = Witnesses::new(Config { policy, timeout: PATIENCE, lacking: Lacking::Hold });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let (store, lock) = place.parts().await;
    let asking = asking(&policy(&witnesses), PATIENCE, Lacking::Publish);
    let options = Options { witnesses: Some(asking), ..Options::new(Format::Timed) };
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let key = Arc::new(P256Key::from_pkcs8(key.unwrap().as_ref()).unwrap());
    let signer = Signer::rekor_v1("log.example.test", 1234, key).unwrap();
    let opened = Log::open(options, signer, store, lock).await.err();
    assert!(matches!(opened, Some(OpenError::NotWitnessed { .. })), "one signature line for ever");
}
