//! The record of every issuance, of every refusal of a request that could be read, and of what its
//! operators did: one entry each of a Merkle log, JSON.
//!
//! An entry is durable before the answer goes out, and the first one of a certificate before anything is
//! signed under its serial number. Tokens never come here; what their claims said does. A log that takes
//! nothing, for its disk is full, stops issuance, not the server.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
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

/// The record. Clones write to the same log.
#[derive(Clone)]
pub struct Audit(Arc<dyn AuditLog>);

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Audit {
    /// A record in `log`.
    #[must_use]
    pub fn new(log: Arc<dyn AuditLog>) -> Self {
        Self(log)
    }

    /// Puts an event on record; returns when that is durable.
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
        let entry = Entry { time, request_id: request_id.to_owned(), event };
        self.0.append(serde_json::to_vec(&entry).expect("texts and numbers only")).await
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
            let entry = Entry { time: Timestamp::UNIX_EPOCH, request_id: "r".into(), event };
            let json = serde_json::to_string(&entry).unwrap();
            let read: Entry = serde_json::from_str(&json).unwrap();
            assert_eq!(read.event, entry.event, "{json}");
        }
        let line = r#"{"time":"2026-01-01T00:00:00Z","request_id":"r","event":"issued","serial":"01","identity":"a","issuer":"b","certificate_sha256":"cd","log_index":7,"previous":"00"}"#;
        let read: Entry = serde_json::from_str(line).unwrap();
        assert!(matches!(read.event, Event::Issued { log_id: None, log_index: Some(7), .. }));
    }
}
