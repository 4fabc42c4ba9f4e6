//! `countersign log monitor`: follows a log as an outsider, and tells of entries that are watched for.
//!
//! At each look the newest checkpoint must be the log's and contain the one before; every new entry is
//! hashed into the tree before it is looked at. What is found is printed, and posted, before the state moves
//! on: it is told at least once. A shard that lies is never followed further: its state stays as it is, and
//! both checkpoints are written to a file that proves it. All shards of a log are followed, those that begin
//! meanwhile as well: each is a tree of its own, and the trusted root lists them. A shard that comes back from a
//! backup with less than before lies, too, as far as an outsider can tell; who knows better says so.

mod log;
mod older;
mod state;
mod watch;

use crate::args::Format;
use crate::args::log::Monitor as Args;
use crate::failure::{self, Failure};
use crate::output::{NewFile, print, visible};
use crate::runtime::block_on;
use crate::trust;
use countersign_client::http::Http;
use countersign_log::monitor::{Batch, Error, Walk, continues};
use countersign_verify::checkpoint::Checkpoint;
use jiff::Timestamp;
use log::Log;
use serde_json::{Value, json};
use state::State;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use url::Url;
use watch::Watch;

/// The name and version of what is printed and posted.
const SCHEMA: &str = "countersign.monitor/1";

/// Bundles after which the state is kept: a monitor that is stopped reads at most so much again.
const KEEP_EVERY: u64 = 16;

/// All the time that a post may take with its repeats.
const POST: Duration = Duration::from_secs(20);

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let root = trust::load(&args.trust)?.root()?.0;
    let logs = Log::all(&root, args.rekor_v1)?;
    let watch = Watch::new(args)?;
    let states = State::load(&args.state, &logs)?;
    let teller = Teller { webhook: args.webhook.clone(), output: args.output };
    for name in &args.accept_shorter {
        if logs.iter().all(|log| log.name() != name) {
            let names: Vec<_> = logs.iter().map(Log::name).collect();
            return Err(Failure::unclear(format!("there is no log {name}"))
                .hint(format!("give one of {}", names.join(", "))));
        }
    }
    let mut monitor = Monitor {
        logs,
        watch,
        teller,
        path: args.state.clone(),
        states,
        accepted: args.accept_shorter.clone(),
        lied: Vec::new(),
    };
    block_on(async {
        loop {
            let (mut lied, mut unclear) = (None, None);
            // One that lies or is away does not keep the others from being looked at.
            for shard in 0..monitor.logs.len() {
                let (key, name) = (monitor.logs[shard].key(), monitor.logs[shard].name());
                if monitor.lied.contains(&key) {
                    let next =
                        "the others are; a look with --once, or a restart, looks at it again";
                    failure::warn(&format!("{name} lied and is not followed"), next);
                    continue;
                }
                match monitor.look(shard).await {
                    Ok(()) => {}
                    Err(Trouble::Lied { reason, shown }) => {
                        let failure = monitor.alarm(shard, &reason, &shown).await;
                        if let Some(before) = lied.replace(failure) {
                            failure::warn(&before.text(), "this is one of several");
                        }
                    }
                    Err(Trouble::Unclear(failure)) if args.once => {
                        unclear.get_or_insert(failure);
                    }
                    Err(Trouble::Unclear(failure)) => {
                        failure::warn(&failure.text(), "it is tried again");
                    }
                }
            }
            if args.once {
                return lied.or(unclear).map_or(Ok(ExitCode::SUCCESS), Err);
            }
            if let Some(failure) = lied {
                failure::warn(&failure.text(), "the other shards are followed on");
            }
            tokio::time::sleep(args.interval).await;
            if let Err(failure) = monitor.learn(args).await {
                failure::warn(&failure.text(), "new shards of the log are looked for again");
            }
        }
    })?
}

struct Monitor {
    logs: Vec<Log>,
    watch: Watch,
    teller: Teller,
    path: PathBuf,
    /// Of those that were looked at.
    states: Vec<State>,
    /// The names of those that may show less than before, by their operator's word.
    accepted: Vec<String>,
    /// The keys of those whose lie was told in this run.
    lied: Vec<String>,
}

/// Why a look did not end well.
enum Trouble {
    /// Nothing is known to be wrong with the log.
    Unclear(Failure),
    /// The log contradicts itself. `shown` is what it shows as its checkpoint.
    Lied { reason: String, shown: String },
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Unclear(failure)
    }
}

impl Monitor {
    /// Takes up shards that the trusted root lists by now.
    async fn learn(&mut self, args: &Args) -> Result<(), Failure> {
        let trust = args.trust.clone();
        let loaded = tokio::task::spawn_blocking(move || trust::load(&trust)?.root()).await;
        let (root, _) = loaded.map_err(|error| Failure::unclear(error.to_string()))??;
        for log in Log::all(&root, args.rekor_v1)? {
            if self.logs.iter().all(|known| known.key() != log.key()) {
                self.logs.push(log);
            }
        }
        Ok(())
    }

    fn state(&self, log: &Log) -> Option<usize> {
        self.states.iter().position(|state| state.key == log.key())
    }

    async fn look(&mut self, shard: usize) -> Result<(), Trouble> {
        let known = self.state(&self.logs[shard]);
        let log = &self.logs[shard];
        let name = log.name().to_owned();
        let away = |reason: String| {
            Failure::unclear(format!("could not reach {name}: {reason}"))
                .hint("nothing is known to be wrong with the log")
        };
        let note = log.note().await.map_err(|error| away(error.to_string()))?;
        let trouble = |error: Error| match error {
            Error::Away { reason } => Trouble::Unclear(away(reason)),
            error => Trouble::Lied { reason: error.to_string(), shown: note.clone() },
        };
        // Against what was seen before all else: of a fork its tiles need not be read.
        let view = log.view(&note).await.map_err(trouble)?;
        let shard = match known {
            Some(known) => {
                let state = &mut self.states[known];
                match continues(&*view, &state.checkpoint).await {
                    // It is read from its beginning again.
                    Err(Error::Shrunk { .. }) if self.accepted.contains(&name) => {
                        *state = State::new(log, view.checkpoint().clone(), note.clone());
                    }
                    continued => continued.map_err(trouble)?,
                }
                (state.checkpoint, state.note) = (view.checkpoint().clone(), note.clone());
                known
            }
            None => {
                self.states.push(State::new(log, view.checkpoint().clone(), note.clone()));
                self.states.len() - 1
            }
        };
        let state = &self.states[shard];
        let from = state.frontier.size();
        let mut walk = Walk::new(&*view, state.frontier.clone());
        let (mut found, mut unreadable, mut kept) = (0, 0, from);
        let outcome = loop {
            let batch = match walk.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) => break Ok(()),
                Err(error) => break Err(trouble(error)),
            };
            let told = events(&self.watch, &batch);
            found += told.iter().filter(|event| event["event"] == "match").count();
            unreadable += told.iter().filter(|event| event["event"] == "unreadable").count();
            if let Err(failure) = self.teller.tell(&name, &told).await {
                break Err(failure.into());
            }
            self.states[shard].frontier = walk.frontier().clone();
            let read = walk.frontier().size();
            if !told.is_empty() || read - kept >= KEEP_EVERY * 256 {
                State::keep(&self.states, &self.path)?;
                kept = read;
            }
        };
        State::keep(&self.states, &self.path)?;
        outcome?;
        let Checkpoint { size, root, .. } = &self.states[shard].checkpoint;
        let root = root.to_string();
        self.teller.print(
            &name,
            &json!({ "event": "checked", "size": size, "root": root, "from": from,
            "entries": size - from, "matches": found, "unreadable": unreadable }),
        )?;
        Ok(())
    }

    /// Writes the evidence, unless it is there already, and tells of it.
    async fn alarm(&mut self, shard: usize, reason: &str, shown: &str) -> Failure {
        let log = &self.logs[shard];
        let seen = self.state(log).map(|state| self.states[state].note.clone());
        let evidence = json!({ "schema": "countersign.monitor-evidence/1", "log": log.name(),
            "logKey": log.key(), "time": Timestamp::now().to_string(), "reason": reason,
            "seen": seen, "shown": shown });
        let written = write_evidence(&self.path, &evidence);
        let file = written.map(|path| path.display().to_string()).map_err(|failure| failure.text());
        let event = json!({ "event": "alarm", "reason": reason, "evidence": file.as_ref().ok(),
            "seen": seen, "shown": shown });
        match self.teller.tell(log.name(), &[event]).await {
            Ok(()) => self.lied.push(log.key()),
            Err(failure) => failure::warn(&failure.text(), "tell of the alarm yourself"),
        }
        let message = format!("{} lied: {reason}", log.name());
        Failure::no(message).hint(match file {
            Ok(file) => format!(
                "{file} holds what was seen before and what is shown now, both signed by the log; tell its operator and all who rely on it; if the operator restored it from a backup, see --accept-shorter"
            ),
            Err(reason) => format!("the evidence could not be written, keep it: {reason}\n{shown}"),
        })
    }
}

/// What is told of a batch.
fn events(watch: &Watch, batch: &Batch) -> Vec<Value> {
    let entries = (batch.first..).zip(&batch.leaves);
    let event = |(index, leaf): (u64, &Vec<u8>)| {
        match watch.read(leaf) {
        Ok(found) => found.map(|found| {
            json!({ "event": "match", "index": index, "matched": found.matched,
                "identities": found.identities, "issuers": found.issuers, "digests": found.digests })
        }),
        Err(reason) => Some(json!({ "event": "unreadable", "index": index, "reason": reason })),
    }
    };
    entries.filter_map(event).collect()
}

/// Beside the state, under a name that is not taken: evidence is never written over. What is in evidence already
/// is not written again.
fn write_evidence(state: &Path, evidence: &Value) -> Result<PathBuf, Failure> {
    let stem = state.display();
    let name = (1..).map(|number| PathBuf::from(format!("{stem}.evidence-{number}.json")));
    let same = |path: &PathBuf| {
        let read = std::fs::read(path).ok();
        let read = read.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
        let read = read.unwrap_or_default();
        ["logKey", "reason", "seen", "shown"].iter().all(|member| read[member] == evidence[member])
    };
    let place = name.into_iter().find(|path| !path.exists() || same(path));
    let path = place.expect("numbers do not end");
    if path.exists() {
        return Ok(path);
    }
    NewFile::begin(&path)?.finish(format!("{evidence:#}\n").as_bytes())?;
    Ok(path)
}

/// Prints, and posts.
struct Teller {
    webhook: Option<Url>,
    output: Format,
}

impl Teller {
    /// Prints events, and posts them as one object.
    async fn tell(&self, log: &str, events: &[Value]) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        events.iter().try_for_each(|event| self.print(log, event))?;
        let Some(url) = &self.webhook else { return Ok(()) };
        let body = json!({ "schema": SCHEMA, "log": log, "events": events }).to_string();
        let host = url.host_str().unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| {
            // A webhook's URL is often its secret.
            let error = error.to_string().replace(url.as_str(), host);
            Failure::unclear(format!("the webhook at {host} does not take what was found: {error}"))
                .hint("it is told again at the next look")
        };
        let http = Http::new([url]).map_err(|error| failed(&error))?.within(POST, |_| {});
        let posted = http.post(url, "application/json", body.as_bytes(), None).await;
        posted.map(drop).map_err(|error| failed(&error))
    }

    fn print(&self, log: &str, event: &Value) -> Result<(), Failure> {
        match self.output {
            Format::Json => {
                let mut line = json!({ "schema": SCHEMA, "log": log });
                let members = event.as_object().cloned().unwrap_or_default();
                line.as_object_mut().expect("an object").extend(members);
                print(&format!("{line}\n"))
            }
            Format::Text => print(&text(log, event)),
        }
    }
}

/// An event for people.
fn text(log: &str, event: &Value) -> String {
    let list = |member: &str| {
        let values = event[member].as_array().into_iter().flatten();
        visible(&values.filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
    };
    let word = |member: &str| visible(event[member].as_str().unwrap_or_default());
    match event["event"].as_str() {
        Some("match") => format!(
            "found: entry {} of {log} by {} ({}) about {}; matched {}\n",
            event["index"],
            list("identities"),
            list("issuers"),
            list("digests"),
            list("matched")
        ),
        Some("unreadable") => {
            format!("unreadable: entry {} of {log}: {}\n", event["index"], word("reason"))
        }
        Some("alarm") => format!("ALARM: {log}: {}\n", word("reason")),
        _ => format!(
            "consistent: {log}, {} entries, {} of them new, {} found, {} unreadable, root {}\n",
            event["size"],
            event["entries"],
            event["matches"],
            event["unreadable"],
            word("root")
        ),
    }
}
