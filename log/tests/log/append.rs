use crate::support::{Place, append, body, fill};
use countersign_log::{AppendError, Candidate, Format, Log, Options};
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_entry_two_hundred_times_at_once_is_one_leaf_with_two_hundred_proofs() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 3).await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let appended = append(&log, b"the same").await.unwrap();
                let proven = log.prove_inclusion(&appended.head, appended.index, b"the same").await;
                proven.unwrap();
                appended.index
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 3);
    }
    assert_eq!(log.head().checkpoint().size, 4);
    log.close().await;
    assert_eq!(place.fsck().await.unwrap().repeated, 0);
}

#[tokio::test]
async fn a_repeat_after_a_restart_gets_the_first_index_and_writes_nothing() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 300).await;
    log.close().await;
    let log = place.open().await;
    let before = log.head().note().to_owned();
    for number in [0, 17, 255, 256, 299] {
        let again = append(&log, &body(number)).await.unwrap();
        assert_eq!((again.index, again.record), (number, None));
        log.prove_inclusion(&again.head, number, &body(number)).await.unwrap();
        let record = log.record(number).await.unwrap().unwrap();
        assert_eq!(record[2..], body(number));
    }
    assert_eq!(log.head().note(), before);
    assert_eq!(log.record(300).await.unwrap(), None);
}

#[tokio::test]
async fn many_writers_get_each_an_index_of_their_own_and_the_log_stays_whole() {
    let place = Place::new();
    let log = place.open().await;
    let writers = (0..8_u64).map(|writer| {
        let log = log.clone();
        async move {
            let mut indices = Vec::new();
            for number in 0..60 {
                indices.push(append(&log, &body(writer * 1000 + number)).await.unwrap().index);
            }
            indices
        }
    });
    let indices: Vec<u64> = futures_util::future::join_all(writers).await.concat();
    assert_eq!(indices.iter().collect::<HashSet<_>>().len(), 480);
    log.close().await;
    let report = place.fsck().await.unwrap();
    assert_eq!((report.size, report.repeated), (480, 0));
    assert_eq!(report.root, log.head().checkpoint().root);
}

#[tokio::test]
async fn a_full_pool_refuses_at_once_and_takes_entries_again_later() {
    let place = Place::new();
    let (store, lock) = place.parts().await;
    let options = Options { max_waiting: 5, ..Options::new(Format::Entries) };
    let log = Log::open(options, place.signer(), store, lock).await.unwrap();
    let bodies: Vec<_> = (0..8).map(body).collect();
    let appends = bodies.iter().map(|body| append(&log, body));
    let outcomes = futures_util::future::join_all(appends).await;
    let full = |outcome: &Result<_, _>| matches!(outcome, Err(AppendError::Full { limit: 5 }));
    assert_eq!(outcomes.iter().filter(|outcome| full(outcome)).count(), 3);
    assert_eq!(append(&log, &bodies[7]).await.unwrap().index, 5);
}

#[tokio::test]
async fn a_closed_log_finishes_what_it_took_and_takes_no_more() {
    let place = Place::new();
    let log = place.open().await;
    let candidate = Candidate::entry(b"last").unwrap();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.append(candidate).await }
    });
    tokio::task::yield_now().await;
    log.close().await;
    assert_eq!(waiting.await.unwrap().unwrap().index, 0);
    assert!(matches!(append(&log, b"later").await, Err(AppendError::Closed)));
    assert_eq!(place.fsck().await.unwrap().size, 1);
}

#[tokio::test]
async fn only_a_log_with_a_table_tells_a_repeat_of_long_ago() {
    for (place, index) in [(Place::new(), 0), (Place::new().without_table(), 2)] {
        let log = place.open().await;
        for number in 0..2 {
            append(&log, &body(number)).await.unwrap();
        }
        let again = append(&log, &body(0)).await.unwrap();
        assert_eq!((again.index, again.record), (0, None), "it was just here");
        log.close().await;
        let log = place.open().await;
        assert_eq!(append(&log, &body(0)).await.unwrap().index, index);
        log.close().await;
        assert_eq!(place.fsck().await.unwrap().size, 2.max(index + 1));
    }
}

/// Nothing should run two processes on one log, but when something does, the swap decides.
#[tokio::test]
async fn two_processes_on_one_log_make_one_tree() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    let mut acknowledged = Vec::new();
    for number in 0..10 {
        let log = if number % 2 == 0 { &one } else { &other };
        let mut outcome = append(log, &body(number)).await;
        if let Err(error) = outcome {
            assert!(matches!(error, AppendError::Conflict), "{error}");
            outcome = append(log, &body(number)).await;
        }
        acknowledged.push(outcome.unwrap().index);
    }
    assert!(acknowledged.into_iter().eq(0..10));
    one.close().await;
    other.close().await;
    let report = place.fsck().await.unwrap();
    assert_eq!((report.size, report.repeated), (10, 0));
}
