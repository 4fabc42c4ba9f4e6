//! The record of every issuance, of every refusal of a request that could be read, and of what its
//! operators did: one entry each of a Merkle log, JSON.
//!
//! An entry is durable before the answer goes out, and the first one of a certificate before anything is
//! signed under its serial number. Tokens never come here; what their claims said does. A log that takes
//! nothing, for its disk is full, stops issuance, not the server.
//!
//! Of the refusals of requests by nobody known, which cost whoever sends them nothing, [`BURST`] are on record one by
//! one and then one each [`INTERVAL`], which says how many before it are not: the record keeps all for good.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Where entries go.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends an entry, JSON of at most 65535 bytes; returns when it is durable.
    ///
    /// # Errors
    /// When it is not known to be.
    async fn append(&self, entry: Vec<u8>) -> Result<(), Error>;
}

/// An entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    /// RFC 3339.
    pub time: Timestamp,
    /// As in the answer and in the program's own log; of acts that no request asked for it is empty.
    pub request_id: String,
    /// How many refusals of requests by nobody known came before this one and are not on record.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unrecorded: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whom a verified token names.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Who {
    /// The name for the certificate.
    pub identity: String,
    /// The OIDC issuer.
    pub issuer: String,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A certificate is about to be signed: its serial number is taken whatever happens next.
    Serial {
        /// Hexadecimal, 40 digits.
        serial: String,
        /// SHA-256 of the key to be certified (SubjectPublicKeyInfo, DER), hexadecimal. Records of before
        /// there was a tree lack it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_sha256: Option<String>,
        /// Whom it is for.
        #[serde(flatten)]
        who: Who,
    },
    /// A certificate was issued.
    Issued {
        /// Hexadecimal, 40 digits.
        serial: String,
        /// Whom it names.
        #[serde(flatten)]
        who: Who,
        /// SHA-256 of the certificate, hexadecimal.
        certificate_sha256: String,
        /// Which certificate log has it, by its ID, hexadecimal; lacking where `key_sha256` is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_id: Option<String>,
        /// Its place there.
        log_index: Option<u64>,
    },
    /// A request was refused or failed.
    Refused {
        /// The stable code.
        reason: String,
        /// What was expected and found, cut at [`MAX_MESSAGE`] bytes.
        message: String,
        /// The rule of the policy that refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// The serial number that was taken before it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serial: Option<String>,
        /// Who asked, if the token could be verified.
        #[serde(flatten)]
        who: Option<Who>,
    },
    /// A policy in a dry run would have refused a request, which was let through.
    WouldRefuse {
        /// What was expected and found, cut at [`MAX_MESSAGE`] bytes.
        message: String,
        /// The rule of the policy that would have refused.
        rule: String,
        /// Who asked, if that is known.
        #[serde(flatten)]
        who: Option<Who>,
    },
    /// Somebody who runs the instance had it do something.
    Administered {
        /// What, in one word.
        act: String,
        /// What it was about: the keys in force from then on, the files of the configuration, a shard.
        about: Vec<String>,
        /// Why it was not done after all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
}

/// Longest message of a refusal, in bytes: one that repeats a hostile claim says enough by then.
pub const MAX_MESSAGE: usize = 1024;

/// Most refusals of requests by nobody known that are on record at once.
pub const BURST: i32 = 300;
/// How often one more is.
pub const INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// Which refusals of requests by nobody known go on record.
#[derive(Default)]
struct Strangers {
    /// When those on record have paid their interval each.
    paid: Timestamp,
    unrecorded: u64,
}

impl Strangers {
    /// Whether the next one does, and how many before it did not.
    fn admit(&mut self, now: Timestamp) -> Option<u64> {
        let ahead = INTERVAL * BURST;
        // A clock that was set back must not stop the record.
        let paid = if self.paid.duration_since(now) > ahead { now } else { self.paid.max(now) };
        if paid.duration_since(now) + INTERVAL > ahead {
            self.unrecorded += 1;
            return None;
        }
        self.paid = paid + INTERVAL;
        Some(std::mem::take(&mut self.unrecorded))
    }
}

/// The record. Clones write to the same log.
#[derive(Clone)]
pub struct Audit {
    log: Arc<dyn AuditLog>,
    strangers: Arc<Mutex<Strangers>>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// A record in `log`.
    #[must_use]
    pub fn new(log: Arc<dyn AuditLog>) -> Self {
        Self { log, strangers: Arc::default() }
    }

    /// Puts an event on record; returns when that is durable, or when there are too many of its kind.
    ///
    /// # Errors
    /// When it could not be: the caller must then not go on.
    pub async fn record(
        &self,
        time: Timestamp,
        request_id: &str,
        mut event: Event,
    ) -> Result<(), Error> {
        if let Event::Refused { message, .. } | Event::WouldRefuse { message, .. } = &mut event {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        }
        let strangers = || self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let by_stranger = matches!(event, Event::Refused { who: None, .. });
        let admitted = if by_stranger { strangers().admit(time) } else { Some(0) };
        let Some(unrecorded) = admitted else { return Ok(()) };
        let entry = Entry { time, request_id: request_id.to_owned(), unrecorded, event };
        let entry = serde_json::to_vec(&entry).expect("texts and numbers only");
        let appended = self.log.append(entry).await;
        if by_stranger && appended.is_err() {
            strangers().unrecorded += unrecorded + 1;
        }
        appended
    }
}

/// An event could not be put on record.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log does not take the entry: {reason}")]
pub struct Error {
    /// What the log said.
    pub reason: String,
    /// Whether it may be later.
    pub retryable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of every kind, and a line of the file that the record was before it was a tree.
    #[test]
    fn what_is_written_reads_back_and_so_do_lines_of_before() {
        let who = Who { identity: "a@example.test".into(), issuer: "https://i.example".into() };
        let text = |text: &str| Some(text.to_owned());
        for event in [
            Event::Serial { serial: "01".into(), key_sha256: text("ab"), who: who.clone() },
            Event::Issued {
                serial: "01".into(),
                who: who.clone(),
                certificate_sha256: "cd".into(),
                log_id: text("ef"),
                log_index: Some(7),
            },
            Event::Refused {
                reason: "POLICY_REFUSED".into(),
                message: "no".into(),
                rule: text("nobody"),
                serial: text("01"),
                who: Some(who),
            },
            Event::Refused {
                reason: "TOKEN_EXPIRED".into(),
                message: "late".into(),
                rule: None,
                serial: None,
                who: None,
            },
            Event::Administered { act: "reload".into(), about: vec!["x".into()], failed: None },
        ] {
            let (time, request_id) = (Timestamp::UNIX_EPOCH, "r".into());
            let entry = Entry { time, request_id, unrecorded: 3, event };
            let json = serde_json::to_string(&entry).unwrap();
            let read: Entry = serde_json::from_str(&json).unwrap();
            assert_eq!((read.event, read.unrecorded), (entry.event, 3), "{json}");
        }
        let line = r#"{"time":"2026-01-01T00:00:00Z","request_id":"r","event":"issued","serial":"01","identity":"a","issuer":"b","certificate_sha256":"cd","log_index":7,"previous":"00"}"#;
        let read: Entry = serde_json::from_str(line).unwrap();
        assert!(matches!(read.event, Event::Issued { log_id: None, log_index: Some(7), .. }));
    }

    #[test]
    fn of_what_strangers_send_few_are_on_record_and_the_next_one_counts_the_rest() {
        let mut strangers = Strangers::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for _ in 0..BURST {
            assert_eq!(strangers.admit(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(strangers.admit(now), None);
        }
        assert_eq!(strangers.admit(now + INTERVAL), Some(7));
        assert_eq!(strangers.admit(now + INTERVAL), None);
        assert_eq!(strangers.admit(now - INTERVAL * 1000), Some(1), "the clock was set back");
    }
}
