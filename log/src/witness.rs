//! Asking witnesses to cosign a tree head before it is published (C2SP tlog-witness).
//!
//! All of them are asked at once, and as soon as the policy is satisfied the rest is not waited for: its
//! requests go on by themselves, so that what a witness has accepted is known next time. A witness whose
//! last request is still under way is not asked again meanwhile; so one that hangs delays a checkpoint
//! once in [`REQUEST`], and not each one.
//!
//! The witness says which tree it cosigned last, and the proof begins there; what we remember of that
//! only saves a request. Nothing of the answer is trusted but cosignatures by the witness's own key.

use crate::engine::Head;
use crate::proof::{self, Tiles};
use countersign_verify::note::{self, Note, Signature, SignatureError};
use countersign_verify::witness::{AddCheckpoint, Policy, Refusal, Witness, decimal};
use metrics::counter;
use reqwest::{StatusCode, Url};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

/// Longest time for one request: ten times what a witness across the world takes, with a restart of it.
pub const REQUEST: Duration = Duration::from_secs(10);

/// Largest answer that is read, bytes: some cosignatures, or a size.
const MAX_ANSWER: usize = 16 << 10;

/// Requests to one witness for one checkpoint. The second has the size that the first was answered; a
/// third is for another feeder that came between.
const ATTEMPTS: usize = 3;

/// Whom to ask, and what then.
#[derive(Clone, Debug)]
pub struct Config {
    /// The witnesses, by their URLs, and how many of which are enough.
    pub policy: Policy,
    /// How long a checkpoint waits for them. Tessera has 1 s.
    pub timeout: Duration,
    /// What happens when they are too few by then.
    pub lacking: Lacking,
}

/// What becomes of a tree head that too few witnesses cosigned in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lacking {
    /// It is published with the cosignatures there are.
    Publish,
    /// It is not published, and the log takes no entries, until there are enough.
    Hold,
}

/// The witnesses of a log.
#[derive(Debug)]
pub struct Witnesses {
    config: Config,
    http: reqwest::Client,
    /// By place in the policy; those without a URL cannot be asked.
    asked: Vec<Option<Arc<Asked>>>,
}

#[derive(Debug)]
struct Asked {
    witness: Witness,
    url: Url,
    /// Held while a request is under way.
    memory: Arc<Mutex<Memory>>,
}

/// What is known of a witness. It is lost with a restart, which then costs one request more.
#[derive(Debug, Default)]
struct Memory {
    /// Leaves of the tree it cosigned last.
    size: u64,
    /// The checkpoint it cosigned last, as it was sent, and its line.
    cosigned: Option<(String, Signature)>,
    /// Its last request failed, and that was said.
    failing: bool,
}

impl Memory {
    /// Its line for that checkpoint, if it has cosigned it already.
    fn line(&self, signed: &str) -> Option<Signature> {
        let (_, line) = self.cosigned.as_ref().filter(|(cosigned, _)| cosigned == signed)?;
        Some(line.clone())
    }
}

impl Witnesses {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a URL is none, or the witnesses that have one cannot satisfy the policy.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let mut asked = Vec::new();
        let (mut plain, policy) = (true, &config.policy);
        for witness in policy.witnesses() {
            let Some(text) = &witness.url else {
                asked.push(None);
                continue;
            };
            let url = format!("{}/add-checkpoint", text.trim_end_matches('/'));
            let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| ConfigError::Url { name: witness.name.clone() })?;
            plain &= url.scheme() == "http";
            let (witness, memory) = (witness.clone(), Arc::default());
            asked.push(Some(Arc::new(Asked { witness, url, memory })));
        }
        policy.demand(|place| asked[place].is_some()).map_err(ConfigError::Unreachable)?;
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        let builder = if plain { builder.tls_certs_only([]).no_proxy() } else { builder };
        let http = builder.build().map_err(|source| ConfigError::Setup(source.to_string()))?;
        Ok(Self { config, http, asked })
    }

    /// The same for another log: what was learnt of the witnesses is of one log's tree.
    pub(crate) fn afresh(&self) -> Self {
        let forgotten = |asked: &Arc<Asked>| {
            let (witness, url) = (asked.witness.clone(), asked.url.clone());
            Arc::new(Asked { witness, url, memory: Arc::default() })
        };
        let asked = self.asked.iter().map(|asked| asked.as_ref().map(forgotten)).collect();
        Self { config: self.config.clone(), http: self.http.clone(), asked }
    }

    /// The note of `head` with the cosignatures of its witnesses, to be published.
    ///
    /// # Errors
    /// When they are too few, and it is to be held then.
    pub(crate) async fn cosign(
        &self,
        tiles: &Arc<Tiles>,
        head: &Arc<Head>,
    ) -> Result<String, Refusal> {
        let mut lines = vec![None; self.asked.len()];
        let (sender, mut answers) = mpsc::unbounded_channel();
        for (place, asked) in self.asked.iter().enumerate() {
            let Some(asked) = asked else { continue };
            let Ok(memory) = Arc::clone(&asked.memory).try_lock_owned() else { continue };
            if let Some(line) = memory.line(&head.signed) {
                lines[place] = Some(line);
                continue;
            }
            let (asked, http, sender) = (Arc::clone(asked), self.http.clone(), sender.clone());
            let (tiles, head) = (Arc::clone(tiles), Arc::clone(head));
            tokio::spawn(async move {
                let line = asked.told(&http, &tiles, &head, memory).await;
                let _ = sender.send((place, line)); // the checkpoint may have been published without
            });
        }
        drop(sender);
        let policy = &self.config.policy;
        let gather = async {
            while !policy.suffices(|place| lines[place].is_some()) {
                let Some((place, line)) = answers.recv().await else { return };
                lines[place] = line;
            }
        };
        let _ = tokio::time::timeout(self.config.timeout, gather).await; // the policy is asked below
        while let Ok((place, line)) = answers.try_recv() {
            lines[place] = line;
        }
        match policy.demand(|place| lines[place].is_some()) {
            Err(refusal) if self.config.lacking == Lacking::Hold => Err(refusal),
            Ok(()) | Err(_) => {
                let lines = lines.iter().flatten().map(|line| format!("{line}\n"));
                Ok(head.signed.clone() + &lines.collect::<String>())
            }
        }
    }
}

impl Asked {
    /// The witness's line. A failure is logged when it is the first of several, and so is their end.
    async fn told(
        &self,
        http: &reqwest::Client,
        tiles: &Tiles,
        head: &Head,
        mut memory: OwnedMutexGuard<Memory>,
    ) -> Option<Signature> {
        let answer = self.ask(http, tiles, head, &mut memory).await;
        let (log, witness) = (&head.checkpoint.origin, &self.witness.name);
        match &answer {
            Ok(_) if memory.failing => tracing::warn!(log, witness, "the witness cosigns again"),
            Err(error) if !memory.failing && error.is_alarming() => {
                tracing::error!(log, witness, %error, "the witness has seen another tree of this log");
            }
            Err(error) if !memory.failing => {
                tracing::warn!(log, witness, %error, "the witness does not cosign");
            }
            _ => {}
        }
        if answer.is_err() {
            let labels = [("log", log.clone()), ("witness", witness.clone())];
            counter!("countersign_log_witness_failures_total", &labels).increment(1);
        }
        memory.failing = answer.is_err();
        answer.ok()
    }

    async fn ask(
        &self,
        http: &reqwest::Client,
        tiles: &Tiles,
        head: &Head,
        memory: &mut Memory,
    ) -> Result<Signature, Error> {
        let size = head.checkpoint.size;
        for _ in 0..ATTEMPTS {
            let old_size = memory.size;
            if old_size > size {
                memory.size = 0; // asked again next time, so that the cause may pass
                return Err(Error::Ahead { theirs: old_size, ours: size });
            }
            let proof = if old_size == 0 || old_size == size {
                vec![]
            } else {
                let proof = proof::consistency_between(tiles, head, old_size, size).await?;
                proof.path().to_vec()
            };
            let note = Note::parse(&head.signed)?;
            let text = note.text().to_owned();
            let body = AddCheckpoint { old_size, proof, note }.to_string();
            let (status, answer) = post(http, &self.url, body).await?;
            match status {
                StatusCode::OK => {
                    let answered = Note::parse(&format!("{text}\n{answer}"))?;
                    let key = &self.witness.key;
                    key.signed(&answered)?;
                    let mut lines = answered.signatures().iter();
                    let line =
                        lines.find(|line| line.name == key.name() && line.key_id == key.id());
                    let line = line.ok_or(Error::NotCosigned)?.clone();
                    memory.size = size;
                    memory.cosigned = Some((head.signed.clone(), line.clone()));
                    return Ok(line);
                }
                StatusCode::CONFLICT => {
                    let theirs = decimal(answer.trim_end_matches('\n'));
                    let theirs = theirs.filter(|theirs| *theirs != old_size);
                    memory.size = theirs.ok_or_else(|| Error::status(status, &answer))?;
                }
                _ => return Err(Error::status(status, &answer)),
            }
        }
        Err(Error::Moving)
    }
}

async fn post(
    http: &reqwest::Client,
    url: &Url,
    body: String,
) -> Result<(StatusCode, String), Error> {
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let first: &dyn std::error::Error = &error;
        let causes = std::iter::successors(Some(first), |error| error.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        Error::Unreachable(causes.join(": "))
    };
    let mut response = http.post(url.clone()).body(body).send().await.map_err(failed)?;
    let (status, mut answer) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if answer.len() + chunk.len() > MAX_ANSWER {
            return Err(Error::TooLong);
        }
        answer.extend_from_slice(&chunk);
    }
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}

/// Why witnesses cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a URL.
    #[error("witness {name}: expected a URL, http or https")]
    Url {
        /// What the policy calls the witness.
        name: String,
    },
    /// However many answer, it is not enough.
    #[error("the witnesses with a URL cannot satisfy the policy: {0}")]
    Unreachable(Refusal),
    /// TLS.
    #[error("the client for witnesses cannot be made: {0}")]
    Setup(String),
}

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer: {0}")]
    Unreachable(String),
    #[error("it answered {status}: {message}")]
    Status { status: StatusCode, message: String },
    #[error("it answered with more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("its answer has no cosignature by its key")]
    NotCosigned,
    #[error("its answer: {0}")]
    Note(#[from] note::Error),
    #[error("its cosignature: {0}")]
    Cosignature(#[from] SignatureError),
    #[error(
        "it cosigned a tree of {theirs} leaves, ours has {ours}: was an old copy of this log put back?"
    )]
    Ahead { theirs: u64, ours: u64 },
    #[error("its tree moves while it is asked: does another process feed it this log?")]
    Moving,
    #[error(transparent)]
    Proof(#[from] proof::Error),
}

impl Error {
    fn status(status: StatusCode, answer: &str) -> Self {
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        Self::Status { status, message: answer.chars().take(200).map(shown).collect() }
    }

    /// Whether it may mean that there are two trees of this log.
    fn is_alarming(&self) -> bool {
        match self {
            Self::Ahead { .. } => true,
            Self::Status { status, .. } => {
                matches!(*status, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY)
            }
            _ => false,
        }
    }
}
