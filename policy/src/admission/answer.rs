//! What goes back to the API server.

use super::{KIND, VERSION};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Longest warning, in bytes: API servers may cut what is longer.
const MAX_WARNING: usize = 256;

/// Most bytes of all warnings of one answer: what API servers pass on.
const MAX_WARNINGS: usize = 4096;

/// An answer to a review. Over HTTP it goes out with status 200, whatever it says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Yes or no.
    pub verdict: Verdict,
    /// Shown to the user, whatever the verdict.
    pub warnings: Vec<String>,
    /// For the cluster's audit log. The API server puts the webhook's name before each key.
    pub audit: BTreeMap<String, String>,
    /// JSON patch, see [`Review::patch`](super::Review::patch); applied only with a yes.
    pub patch: Vec<Value>,
}

/// What is said of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It may come in.
    Allowed,
    /// It may not: policy says no.
    Refused(String),
    /// It may not: whether policy would say yes could not be found out. Worth trying again.
    Undecided(String),
}

impl Answer {
    /// An answer that says nothing but the verdict.
    #[must_use]
    pub const fn new(verdict: Verdict) -> Self {
        Self { verdict, warnings: Vec::new(), audit: BTreeMap::new(), patch: Vec::new() }
    }

    /// The answer to the review with this `uid`, JSON.
    #[must_use]
    pub fn to_json(&self, uid: &str) -> String {
        let mut response = json!({
            "uid": uid,
            "allowed": self.verdict == Verdict::Allowed,
        });
        match &self.verdict {
            Verdict::Allowed if self.patch.is_empty() => {}
            Verdict::Allowed => {
                response["patchType"] = "JSONPatch".into();
                response["patch"] =
                    STANDARD.encode(Value::from(self.patch.clone()).to_string()).into();
            }
            Verdict::Refused(message) => {
                response["status"] = status(403, "Forbidden", message);
            }
            Verdict::Undecided(message) => {
                response["status"] = status(503, "ServiceUnavailable", message);
            }
        }
        let warnings = self.warnings();
        if !warnings.is_empty() {
            response["warnings"] = warnings.into();
        }
        if !self.audit.is_empty() {
            response["auditAnnotations"] = json!(self.audit);
        }
        json!({ "apiVersion": VERSION, "kind": KIND, "response": response }).to_string()
    }

    fn warnings(&self) -> Vec<&str> {
        let mut left = MAX_WARNINGS;
        let short = self
            .warnings
            .iter()
            .map(|warning| &warning[..warning.floor_char_boundary(MAX_WARNING)]);
        short
            .take_while(|warning| {
                let fits = warning.len() <= left;
                left = left.saturating_sub(warning.len());
                fits
            })
            .collect()
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "code": code, "reason": reason, "message": message })
}
