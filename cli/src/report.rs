//! One result, as text or as JSON. The JSON schema is described in docs/report.md.

use crate::args::Output;
use crate::failure::{Failure, NO, UNCLEAR, YES};
use crate::{args, output};
use console::style;
use countersign_policy::Decision;
use countersign_verify::certificate::{CLAIMS, Identity, Subject};
use countersign_verify::encoding::hex;
use countersign_verify::{Error, Outcome, Report, Verified};
use serde::Serialize;
use std::process::ExitCode;

/// The name and version of the schema.
const SCHEMA: &str = "countersign.report/1";

/// The result of signing or verifying one artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Result {
    schema: &'static str,
    /// `accepted`, `refused` or `undecided`.
    verdict: &'static str,
    /// Why not: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Why not: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    file: String,
    bundle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<Signer>,
    times: Vec<Time>,
    entries: Vec<Entry>,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signer {
    identity: String,
    /// `uri`, `email` or `username`.
    kind: &'static str,
    issuer: String,
    claims: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Time {
    time: String,
    authority: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    log: String,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_size: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    /// `pass`, `fail` or `not-reached`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Signer {
    pub(crate) fn new(identity: &Identity) -> Self {
        let (kind, subject) = match identity.subject() {
            Subject::Uri(text) => ("uri", text),
            Subject::Email(text) => ("email", text),
            Subject::Username(text) => ("username", text),
        };
        let named = |number: &u8| CLAIMS.iter().find(|(known, _)| known == number);
        let claims = identity.claims().iter().filter_map(|(number, text)| {
            named(number).map(|(_, name)| ((*name).to_owned(), text.clone().into()))
        });
        let issuer = identity.issuer().unwrap_or_default().to_owned();
        Self { identity: subject.clone(), kind, issuer, claims: claims.collect() }
    }
}

impl Result {
    /// The result of `report`, and of the policy's decision if there was one.
    pub(crate) fn new(
        file: String,
        bundle: String,
        report: &Report,
        decision: Option<&Decision>,
    ) -> Self {
        let mut checks: Vec<Check> = report.checks().iter().map(Check::new).collect();
        let refusal = decision.and_then(|decision| decision.result().err());
        if let Some(decision) = decision {
            checks.push(match decision.result() {
                Ok(rule) => Check::pass("policy", rule.to_owned()),
                Err(refusal) => Check::fail("policy", refusal.to_string()),
            });
        } else if report.result().is_err() {
            checks.push(Check { name: "policy", outcome: "not-reached", detail: None });
        }
        let (verdict, code, reason) = match (report.result(), refusal) {
            (Err(error), _) => {
                // What is missing is the caller's to give: another digest, the key.
                let missing = matches!(error, Error::DigestNeeded { .. } | Error::KeyNeeded);
                let verdict = if missing { "undecided" } else { "refused" };
                (verdict, Some(error.code()), Some(error.to_string()))
            }
            (Ok(_), Some(refusal)) => {
                ("refused", Some("IDENTITY_MISMATCH"), Some(refusal.to_string()))
            }
            (Ok(_), None) => ("accepted", None, None),
        };
        let verified = report.result().ok();
        let artifact = verified.map(Verified::artifact);
        let artifact =
            artifact.map(|(hash, digest)| format!("{}:{}", hash.short_name(), hex(digest)));
        let times = verified.map(Verified::times).unwrap_or_default().iter().map(|trusted| Time {
            time: trusted.time.to_string(),
            authority: trusted.authority.clone(),
        });
        let entries = verified.map(Verified::entries).unwrap_or_default().iter().map(|entry| {
            Entry { log: entry.log.clone(), index: entry.index, tree_size: entry.tree_size }
        });
        Self {
            schema: SCHEMA,
            verdict,
            code,
            reason,
            file,
            bundle,
            artifact,
            signer: verified.map(|verified| Signer::new(verified.identity())),
            times: times.collect(),
            entries: entries.collect(),
            checks,
        }
    }

    /// Prints it, and gives the exit status.
    pub(crate) fn print(
        &self,
        options: &Output,
        done: &str,
    ) -> std::result::Result<ExitCode, Failure> {
        let accepted = self.verdict == "accepted";
        if options.output == args::Format::Json {
            let json = serde_json::to_string(self).expect("texts and numbers only");
            output::print(&format!("{json}\n"))?;
            return Ok(ExitCode::from(match self.verdict {
                "accepted" => YES,
                "refused" => NO,
                _ => UNCLEAR,
            }));
        }
        let mut text = String::new();
        if options.explain {
            for check in &self.checks {
                text.push_str(&check.line());
            }
        }
        if accepted {
            text.push_str(&format!("{} {}\n", style(done).green().bold(), self.file));
            if let Some(Signer { identity, issuer, .. }) = &self.signer {
                let (identity, issuer) = (output::visible(identity), output::visible(issuer));
                text.push_str(&format!("  signed by {identity}\n  according to {issuer}\n"));
            }
            for Time { time, authority } in &self.times {
                text.push_str(&format!("  before {time}, says {authority}\n"));
            }
            for Entry { log, index, .. } in &self.entries {
                text.push_str(&format!("  entry {index} of {log}\n"));
            }
        }
        output::print(&text)?;
        match &self.reason {
            None => Ok(ExitCode::from(YES)),
            Some(reason) => {
                let message = format!("{}: {reason}", self.file);
                let refused = self.verdict == "refused";
                Err(if refused { Failure::no(message) } else { Failure::unclear(message) })
            }
        }
    }
}

impl Check {
    fn new((check, outcome): &(countersign_verify::Check, Outcome)) -> Self {
        let name = check.name();
        match outcome {
            Outcome::Pass(detail) => Self::pass(name, detail.clone()),
            Outcome::Fail(detail) => Self::fail(name, detail.clone()),
            Outcome::NotReached => Self { name, outcome: "not-reached", detail: None },
        }
    }

    const fn pass(name: &'static str, detail: String) -> Self {
        Self { name, outcome: "pass", detail: Some(detail) }
    }

    const fn fail(name: &'static str, detail: String) -> Self {
        Self { name, outcome: "fail", detail: Some(detail) }
    }

    fn line(&self) -> String {
        let mark = match self.outcome {
            "pass" => style("pass       ").green(),
            "fail" => style("FAIL       ").red().bold(),
            _ => style("not reached").dim(),
        };
        let detail = output::visible(self.detail.as_deref().unwrap_or_default());
        format!("  {mark}  {:16}{detail}\n", self.name)
    }
}
