//! A TUF repository made in memory, and a server for it that can misbehave. Ed25519 keys, consistent
//! snapshots; the metadata has only ASCII texts and integers, for which compact JSON with sorted members
//! is the canonical form that is signed.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Files by path, as a server has them.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A repository and its keys. Change members, then [`publish`](Self::publish).
pub struct Repository {
    /// Signs roots.
    pub root_key: Ed25519KeyPair,
    /// Signs timestamps, snapshots and targets.
    pub online_key: Ed25519KeyPair,
    /// Version of the root.
    pub root: u64,
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Version of the snapshot.
    pub snapshot: u64,
    /// Version of the targets.
    pub targets: u64,
    /// When the timestamp expires; everything else a year after.
    pub expires: Timestamp,
    /// Targets by name.
    pub files: Files,
    /// What is served, by path.
    pub served: Files,
}

/// A new key.
#[must_use]
pub fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().expect("the system has randomness")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn key_id(key: &Ed25519KeyPair) -> String {
    sha256(key.public_key().as_ref())
}

fn sign(signed: &Value, keys: &[&Ed25519KeyPair]) -> Vec<u8> {
    let text = signed.to_string();
    let signatures: Vec<Value> = keys
        .iter()
        .map(|key| json!({ "keyid": key_id(key), "sig": hex(key.sign(text.as_bytes()).as_ref()) }))
        .collect();
    json!({ "signatures": signatures, "signed": signed }).to_string().into_bytes()
}

fn time(time: Timestamp) -> String {
    format!("{time:.0}")
}

impl Repository {
    /// A first version with these targets, whose timestamp expires at `expires`; published.
    #[must_use]
    pub fn new(
        expires: Timestamp,
        files: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
    ) -> Self {
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        let served = Files::new();
        let (root_key, online_key) = (key(), key());
        let mut repository = Self {
            root_key,
            online_key,
            root: 1,
            timestamp: 1,
            snapshot: 1,
            targets: 1,
            expires,
            files,
            served,
        };
        repository.publish_root(&[]);
        repository.publish();
        repository
    }

    fn later(&self) -> String {
        time(self.expires + SignedDuration::from_hours(365 * 24))
    }

    /// The latest `root.json`.
    #[must_use]
    pub fn root_json(&self) -> Vec<u8> {
        self.served[&format!("{}.root.json", self.root)].clone()
    }

    /// Writes the root of the current version, signed by the root key and by `others`.
    pub fn publish_root(&mut self, others: &[&Ed25519KeyPair]) {
        let describe = |key: &Ed25519KeyPair| {
            let public = hex(key.public_key().as_ref());
            json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } })
        };
        let role = |key: &Ed25519KeyPair| json!({ "keyids": [key_id(key)], "threshold": 1 });
        let (root, online) = (&self.root_key, &self.online_key);
        let signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": self.root,
            "expires": self.later(), "consistent_snapshot": true,
            "keys": { key_id(root): describe(root), key_id(online): describe(online) },
            "roles": { "root": role(root), "timestamp": role(online),
                "snapshot": role(online), "targets": role(online) } });
        let keys: Vec<_> = [root].into_iter().chain(others.iter().copied()).collect();
        let bytes = sign(&signed, &keys);
        self.served.insert(format!("{}.root.json", self.root), bytes);
    }

    /// The next root, with a new root key, signed by both.
    pub fn rotate(&mut self) {
        let old = std::mem::replace(&mut self.root_key, key());
        self.root += 1;
        self.publish_root(&[&old]);
    }

    /// Writes targets, snapshot and timestamp of the current versions.
    pub fn publish(&mut self) {
        let mut targets = serde_json::Map::new();
        for (name, bytes) in &self.files {
            let hash = sha256(bytes);
            self.served.insert(format!("targets/{hash}.{name}"), bytes.clone());
            let entry = json!({ "length": bytes.len(), "hashes": { "sha256": hash } });
            targets.insert(name.clone(), entry);
        }
        let pin = |version: u64, bytes: &[u8]| json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } });
        let later = self.later();
        let targets = sign(
            &json!({ "_type": "targets", "spec_version": "1.0.31", "version": self.targets,
                "expires": later, "targets": targets }),
            &[&self.online_key],
        );
        let snapshot = sign(
            &json!({ "_type": "snapshot", "spec_version": "1.0.31", "version": self.snapshot,
                "expires": later, "meta": { "targets.json": pin(self.targets, &targets) } }),
            &[&self.online_key],
        );
        let timestamp = sign(
            &json!({ "_type": "timestamp", "spec_version": "1.0.31", "version": self.timestamp,
                "expires": time(self.expires),
                "meta": { "snapshot.json": pin(self.snapshot, &snapshot) } }),
            &[&self.online_key],
        );
        self.served.insert(format!("{}.targets.json", self.targets), targets);
        self.served.insert(format!("{}.snapshot.json", self.snapshot), snapshot);
        self.served.insert("timestamp.json".to_owned(), timestamp);
    }

    /// The next version of everything below the root.
    pub fn advance(&mut self) {
        self.timestamp += 1;
        self.snapshot += 1;
        self.targets += 1;
        self.publish();
    }

    /// The path at which a target is served.
    ///
    /// # Panics
    /// When there is no such target.
    #[must_use]
    pub fn target_path(&self, name: &str) -> String {
        format!("targets/{}.{name}", sha256(&self.files[name]))
    }
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Serves what it has.
    Good,
    /// Never stops sending this path.
    Endless(String),
    /// Accepts, and never answers.
    Silent,
}

/// A repository over HTTP on loopback; the thread ends with the process.
pub struct Server {
    /// Its base URL.
    pub url: String,
    /// What it has.
    pub files: Arc<Mutex<Files>>,
    /// How it behaves.
    pub behaviour: Arc<Mutex<Behaviour>>,
    /// The paths that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `files` on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(files: &Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let files = Arc::new(Mutex::new(files.clone()));
        let behaviour = Arc::new(Mutex::new(Behaviour::Good));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Self { url, files, behaviour, asked };
        let (files, behaviour, asked) =
            (server.files.clone(), server.behaviour.clone(), server.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, behaviour, asked) = (files.clone(), behaviour.clone(), asked.clone());
                std::thread::spawn(move || answer(stream, &files, &behaviour, &asked));
            }
        });
        server
    }

    /// Serves other files from now on.
    ///
    /// # Panics
    /// When the serving thread panicked.
    pub fn serve(&self, files: &Files) {
        self.files.lock().expect("not poisoned").clone_from(files);
    }

    /// Behaves otherwise from now on.
    ///
    /// # Panics
    /// When the serving thread panicked.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("not poisoned") = behaviour;
    }

    /// How many requests there were.
    ///
    /// # Panics
    /// When the serving thread panicked.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.asked.lock().expect("not poisoned").len()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Mutex<Files>,
    behaviour: &Mutex<Behaviour>,
    asked: &Mutex<Vec<String>>,
) {
    let Ok(clone) = stream.try_clone() else { return };
    let mut lines = BufReader::new(clone).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    asked.lock().expect("not poisoned").push(path.clone());
    let behaviour = behaviour.lock().expect("not poisoned").clone();
    match behaviour {
        Behaviour::Silent => std::thread::sleep(Duration::from_secs(30)),
        Behaviour::Endless(endless) if endless == path => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            while stream.write_all(&[b' '; 65536]).is_ok() {}
        }
        _ => {
            let file = files.lock().expect("not poisoned").get(&path).cloned();
            let status = if file.is_some() { "200 OK" } else { "404 Not Found" };
            let body = file.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}
