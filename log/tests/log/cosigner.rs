//! A witness over HTTP: what it refuses, in the order of the specification, and that it never goes back.

use crate::support::{Place, append, fill};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::Log;
use countersign_log::cosigner::Cosigner;
use countersign_log::http::cosigner as routes;
use countersign_verify::encoding::hex;
use countersign_verify::merkle::{Hash, empty_root};
use countersign_verify::note::{Note, VerifierKey};
use countersign_verify::witness::{self, AddCheckpoint, MAX_REQUEST};
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Noon of a day in 2026.
pub(crate) const NOW: i64 = 1_795_694_400;

/// A witness that can be stopped and begun again where it was.
pub(crate) struct Witness {
    folder: TempDir,
    pkcs8: Vec<u8>,
    name: String,
    logs: Vec<VerifierKey>,
    pub(crate) key: VerifierKey,
    pub(crate) url: String,
    server: Option<JoinHandle<()>>,
}

impl Witness {
    pub(crate) async fn start(name: &str, logs: &[VerifierKey]) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        let folder = tempfile::tempdir().unwrap();
        let cosigner = open(name, &pkcs8, logs, &database(folder.path())).await;
        let key = cosigner.key().clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Some(serve(cosigner, listener));
        let (name, logs) = (name.to_owned(), logs.to_vec());
        Self { folder, pkcs8, name, logs, key, url, server }
    }

    pub(crate) async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    /// At the same address, from what it has kept.
    pub(crate) async fn start_again(&mut self) {
        let database = database(self.folder.path());
        let cosigner = open(&self.name, &self.pkcs8, &self.logs, &database).await;
        let listener = TcpListener::bind(self.url.strip_prefix("http://").unwrap()).await.unwrap();
        self.server = Some(serve(cosigner, listener));
    }

    pub(crate) async fn add(&self, body: impl Into<String>) -> (StatusCode, String, String) {
        let url = format!("{}/add-checkpoint", self.url);
        let answer = Client::new().post(url).body(body.into()).send().await.unwrap();
        let kind = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
        (answer.status(), kind, answer.text().await.unwrap())
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("witness.db")
}

async fn open(name: &str, pkcs8: &[u8], logs: &[VerifierKey], database: &Path) -> Cosigner {
    let logs = logs.iter().map(|key| witness::Log::parse(&key.to_string()).unwrap());
    let clock = Arc::new(|| Timestamp::from_second(NOW).unwrap());
    Cosigner::open(name, pkcs8, logs, database, clock).await.unwrap()
}

fn serve(cosigner: Cosigner, listener: TcpListener) -> JoinHandle<()> {
    let routes = routes(Arc::new(cosigner));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
}

/// A log and its checkpoints, by size.
pub(crate) struct History {
    pub(crate) place: Place,
    log: Log,
    notes: Vec<String>,
}

impl History {
    /// Of `sizes` entries, one after the other.
    pub(crate) async fn of(place: Place, sizes: u64) -> Self {
        let log = place.open().await;
        let mut notes = vec![log.head().note().to_owned()];
        for size in 1..=sizes {
            fill(&log, size - 1, size).await;
            notes.push(log.head().note().to_owned());
        }
        Self { place, log, notes }
    }

    pub(crate) fn key(&self) -> VerifierKey {
        self.place.key().verifier_key().unwrap()
    }

    async fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        if old == 0 || old == new {
            return vec![];
        }
        let proof = self.log.prove_consistency_between(&self.log.head(), old, new).await.unwrap();
        proof.path().to_vec()
    }

    pub(crate) async fn request(&self, old_size: u64, new: u64) -> AddCheckpoint {
        let note = Note::parse(&self.notes[usize::try_from(new).unwrap()]).unwrap();
        AddCheckpoint { old_size, proof: self.proof(old_size, new).await, note }
    }
}

#[tokio::test]
async fn each_check_has_its_status_and_comes_in_its_order() {
    let history = History::of(Place::new(), 9).await;
    let witness = Witness::start("w.example", &[history.key()]).await;
    let first = history.request(0, 4).await.to_string();
    let (status, _, line) = witness.add(&*first).await;
    assert_eq!(status, StatusCode::OK, "{line}");
    let note = Note::parse(&format!("{}{line}", history.notes[4])).unwrap();
    let now = u64::try_from(NOW).unwrap();
    assert_eq!(witness.key.signed(&note), Ok(Some(now)), "what it answers is its cosignature");

    let stranger = History::of(Place::new(), 1).await;
    let fork = History::of(history.place.with_same_key(), 0).await;
    fill(&fork.log, 0, 3).await;
    append(&fork.log, b"another entry").await.unwrap();
    let forked = fork.log.head().note().to_owned();
    fill(&fork.log, 4, 9).await;
    let forked_later = fork.log.head().note().to_owned();
    let good = history.request(4, 7).await;
    let text = good.to_string();
    let with = |note: &str, old: u64, proof: Vec<Hash>| {
        AddCheckpoint { old_size: old, proof, note: Note::parse(note).unwrap() }.to_string()
    };
    let renamed = |name: &str| text.replacen("log.example.test", name, 1);
    let proof = good.proof.clone();
    let mut altered = proof.clone();
    altered[0] = Hash::of(b"another");
    let fork_proof = fork.log.prove_consistency_between(&fork.log.head(), 4, 9).await.unwrap();
    let unsigned = Note::new(
        good.note.text().to_owned(),
        vec![Note::parse(&stranger.notes[1]).unwrap().signatures()[0].clone()],
    );
    for (case, request, expected, says) in [
        ("no request", "hello".to_owned(), 400, "line 1"),
        ("a size twice written", text.replacen("old 4", "old 04", 1), 400, "line 1"),
        ("no note", "old 4\n\n".to_owned(), 400, "blank line"),
        ("no checkpoint", with("text\n\n\u{2014} a AAAAAAA=\n", 4, vec![]), 400, "line 2"),
        // All is wrong with it; that nobody knows the log comes first.
        (
            "an unknown log",
            renamed("other.example").replacen("old 4", "old 99", 1),
            404,
            "not known",
        ),
        ("no signature", with(&unsigned.unwrap().to_string(), 99, vec![]), 403, "no signature"),
        ("a broken signature", text.replacen("\n7\n", "\n8\n", 1), 403, "does not hold"),
        ("a key of another log", with(&stranger.notes[1], 0, vec![]), 403, "no signature"),
        ("a proof from beyond", with(&history.notes[7], 8, proof.clone()), 400, "above"),
        ("another old size", with(&history.notes[7], 3, proof.clone()), 409, "4\n"),
        ("an old size from nowhere", with(&history.notes[7], 0, vec![]), 409, "4\n"),
        ("an altered proof", with(&history.notes[7], 4, altered), 422, "does not fit"),
        ("a short proof", with(&history.notes[7], 4, vec![]), 422, "hashes"),
        ("a fork of that size", with(&forked, 4, vec![]), 422, "does not fit"),
        ("a fork, later", with(&forked_later, 4, fork_proof.path().to_vec()), 422, "does not fit"),
    ] {
        let (status, kind, answer) = witness.add(request).await;
        assert_eq!(status.as_u16(), expected, "{case}: {answer}");
        assert!(answer.contains(says), "{case}: {answer:?}");
        let expected =
            if expected == 409 { "text/x.tlog.size" } else { "text/plain; charset=utf-8" };
        assert_eq!(kind, expected, "{case}");
    }
    let (status, _, _) = witness.add("x".repeat(MAX_REQUEST + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

    // After all this it stands where it stood: the same again refreshes, and the good one is taken.
    for (request, size) in [(history.request(4, 4).await, 4), (good, 7)] {
        let (status, _, line) = witness.add(request.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{line}");
        let url =
            format!("{}/{}/checkpoint", witness.url, hex(Hash::of(b"log.example.test").as_bytes()));
        let kept = Client::new().get(url).send().await.unwrap().text().await.unwrap();
        assert_eq!(kept, format!("{}{line}", history.notes[size]));
    }
    for other in [hex(Hash::of(b"other.example").as_bytes()), "00".to_owned(), "X".repeat(64)] {
        let url = format!("{}/{other}/checkpoint", witness.url);
        let answer = Client::new().get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{other}");
    }
}

#[tokio::test]
async fn an_empty_tree_has_the_empty_root() {
    let history = History::of(Place::new(), 0).await;
    let witness = Witness::start("w.example", &[history.key()]).await;
    let signer = history.place.signer();
    let other = signer.sign(0, Hash::of(b"another root")).unwrap();
    for (note, expected) in [(&other, 422), (&signer.sign(0, empty_root()).unwrap(), 200)] {
        let note = Note::parse(note).unwrap();
        let request = AddCheckpoint { old_size: 0, proof: vec![], note };
        let (status, _, answer) = witness.add(request.to_string()).await;
        assert_eq!(status.as_u16(), expected, "{answer}");
    }
}

#[tokio::test]
async fn of_requests_at_one_time_one_wins_and_the_size_never_goes_back() {
    const SIZES: u64 = 24;
    let history = History::of(Place::new(), SIZES).await;
    let mut witness = Witness::start("w.example", &[history.key()]).await;
    let mut size = 0;
    while size < SIZES {
        let mut requests = vec![];
        for new in size + 1..=SIZES.min(size + 8) {
            requests.push((new, history.request(size, new).await.to_string()));
        }
        let answers =
            requests.iter().map(async |(new, request)| (*new, witness.add(&**request).await));
        let answers = futures_util::future::join_all(answers).await;
        let won: Vec<_> =
            answers.iter().filter(|(_, (status, ..))| *status == StatusCode::OK).collect();
        assert_eq!(won.len(), 1, "from {size}: {answers:?}");
        let (new, _) = won[0];
        for (_, (status, _, answer)) in answers.iter().filter(|(other, _)| other != new) {
            assert_eq!((*status, &**answer), (StatusCode::CONFLICT, &*format!("{new}\n")));
        }
        size = *new;
        witness.stop().await;
        witness.start_again().await;
    }
    let (status, _, answer) = witness.add(history.request(1, 2).await.to_string()).await;
    assert_eq!((status, answer), (StatusCode::CONFLICT, format!("{SIZES}\n")));
}
