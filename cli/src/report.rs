//! The results of signing or verifying, as text or as JSON. The JSON schema is described in
//! docs/report.md.

use crate::args::Output;
use crate::failure::{Failure, NO, UNCLEAR, YES};
use crate::judge::Gathered;
use crate::{args, output, trust};
use console::style;
use countersign_policy::{Decision, Facts, Outcome as Answer};
use countersign_verify::certificate::{CLAIMS, Identity, Subject};
use countersign_verify::encoding::{base64, hex};
use countersign_verify::key::{HashAlgorithm, PublicKey};
use countersign_verify::{self as verify, Error, Outcome, Report, Verified};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

/// The name and version of the schema.
const SCHEMA: &str = "countersign.report/1";

/// The answer to one artifact's question.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Accepted,
    Refused,
    Undecided,
}

/// The results of one command, whether about one artifact or many.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    schema: &'static str,
    verdict: Verdict,
    accepted: usize,
    refused: usize,
    undecided: usize,
    results: Vec<Result>,
    /// By whose trust, to say what can be done about keys that it does not know.
    #[serde(skip)]
    trust: Option<args::Trust>,
}

/// The result of signing or verifying one artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Result {
    pub(crate) verdict: Verdict,
    /// Why not: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Why not: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<Signer>,
    times: Vec<Time>,
    entries: Vec<Entry>,
    /// Of signing alone: why there is no log entry yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    deferred: Option<String>,
    checks: Vec<Check>,
    /// The decision by a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<serde_json::Value>,
    /// The same, for people: what is always told, and what is told to who asks why.
    #[serde(skip)]
    told: (String, String),
    /// What to do about it, as the policy's decision has it.
    #[serde(skip)]
    next: Option<String>,
    /// What the policy decided from; recorded where that is asked for.
    #[serde(skip)]
    facts: Option<Facts>,
}

/// A decision by a policy, and what it was made from.
pub(crate) struct Decided<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) facts: Facts,
    /// With what is no evidence, and what could not be read.
    pub(crate) gathered: Gathered,
    /// What is not attested, of what must be beside what the policy demands.
    pub(crate) lacking: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signer {
    identity: String,
    /// `uri`, `email`, `username` or `key`.
    kind: &'static str,
    issuer: String,
    claims: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Time {
    time: String,
    authority: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    log: String,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_size: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    /// `pass`, `fail`, `not-needed` or `not-reached`.
    outcome: &'static str,
    expected: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

/// A question that a command asks beyond the evidence itself.
pub(crate) struct Demand {
    /// A stable name.
    pub(crate) name: &'static str,
    /// What must hold, a sentence.
    pub(crate) expected: String,
    /// What was found, or a stable code and the reason. Not looked at unless the evidence holds.
    pub(crate) outcome: std::result::Result<String, (&'static str, String)>,
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

    fn key(key: &PublicKey) -> Self {
        let identity = format!("SHA256:{}", base64(&HashAlgorithm::Sha256.digest(key.spki())));
        let claims = serde_json::Map::new();
        Self { identity, kind: "key", issuer: String::new(), claims }
    }

    /// Two lines for people, or one for a managed key.
    fn lines(&self) -> String {
        let (identity, issuer) = (output::visible(&self.identity), output::visible(&self.issuer));
        match self.kind {
            "key" => format!("  signed by the key {identity}\n"),
            _ if issuer.is_empty() => {
                format!("  signed by {identity}\n  according to an issuer that it does not name\n")
            }
            _ => format!("  signed by {identity}\n  according to {issuer}\n"),
        }
    }
}

impl Result {
    /// The result of `report` and, where the evidence holds, of the demands beyond it, of which the first
    /// that is not met refuses.
    pub(crate) fn new(file: &str, bundle: &str, report: &Report, demands: Vec<Demand>) -> Self {
        let mut checks: Vec<Check> = report.checks().iter().map(Check::new).collect();
        let mut refusal = report.result().err().map(|error| {
            // What is missing is the caller's to give: another digest, the key.
            let missing = matches!(error, Error::DigestNeeded { .. } | Error::KeyNeeded);
            let verdict = if missing { Verdict::Undecided } else { Verdict::Refused };
            let reason = match error {
                Error::Bundle(reason) => format!("{bundle}: {reason}"),
                error => error.to_string(),
            };
            (verdict, error.code(), reason)
        });
        for Demand { name, expected, outcome } in demands {
            let (outcome, found) = match outcome {
                _ if refusal.is_some() => ("not-reached", None),
                Ok(found) => ("pass", Some(found)),
                Err((code, reason)) => {
                    refusal = Some((Verdict::Refused, code, reason.clone()));
                    ("fail", Some(reason))
                }
            };
            checks.push(Check { name, outcome, expected, found });
        }
        let verified = report.result().ok();
        let artifact = verified.map(Verified::artifact);
        let times = verified.map(Verified::times).unwrap_or_default().iter().map(|trusted| Time {
            time: trusted.time.to_string(),
            authority: trusted.authority.clone(),
        });
        let entries = verified.map(Verified::entries).unwrap_or_default().iter().map(|entry| {
            Entry { log: entry.log.clone(), index: entry.index, tree_size: entry.tree_size }
        });
        let (verdict, code, reason) = match refusal {
            Some((verdict, code, reason)) => (verdict, Some(code), Some(reason)),
            None => (Verdict::Accepted, None, None),
        };
        Self {
            verdict,
            code,
            reason,
            file: file.to_owned(),
            bundle: Some(bundle.to_owned()),
            artifact: artifact.map(|(hash, digest)| named(hash, digest)),
            predicate_type: verified
                .and_then(Verified::statement)
                .map(|statement| statement.predicate_type().to_owned()),
            signer: verified.map(|verified| match verified.signer() {
                verify::Signer::Certificate { identity, .. } => Signer::new(identity),
                verify::Signer::Key(key) => Signer::key(key),
            }),
            times: times.collect(),
            entries: entries.collect(),
            deferred: None,
            checks,
            policy: None,
            told: (String::new(), String::new()),
            next: None,
            facts: None,
        }
    }

    /// The same, signed but not logged yet, and why.
    pub(crate) fn deferred(self, deferred: Option<String>) -> Self {
        Self { deferred, ..self }
    }

    /// What a policy has decided about a file or an image.
    pub(crate) fn decided(file: &str, decided: Decided<'_>) -> Self {
        let Decided { decision, facts, gathered, lacking } = decided;
        let Gathered { rejected, missed, .. } = gathered;
        let (verdict, code, mut reason) = match (decision.outcome(), lacking) {
            (Answer::Pass, Some(kind)) => {
                let reason = format!(
                    "expected an attestation of type {kind}, found none that verifies and counts"
                );
                let known = if missed.is_none() { Verdict::Refused } else { Verdict::Undecided };
                (known, Some("PREDICATE_TYPE_MISMATCH"), Some(reason))
            }
            (Answer::Pass, None) => (Verdict::Accepted, None, None),
            (Answer::Fail, _) => {
                (Verdict::Refused, Some("POLICY_REFUSED"), Some(decision.reason()))
            }
            (Answer::Undecided, _) => {
                (Verdict::Undecided, Some("POLICY_UNDECIDED"), Some(decision.reason()))
            }
        };
        if let (Some(reason), Verdict::Undecided, Some(missed)) = (&mut reason, verdict, &missed) {
            let _ = write!(reason, "; {}", missed.what);
        }
        // Without any evidence the reason that there is none says more than what the policy misses.
        if let (Some(reason), true, [(bundle, why)]) =
            (&mut reason, facts.evidence.is_empty(), rejected.as_slice())
        {
            let _ = write!(reason, "; {bundle} does not verify: {why}");
        }
        let mut told = (String::new(), decision.explain());
        if decision.allows() {
            let _ = writeln!(told.0, "  {}: {}", decision.tree().what, decision.rule());
        }
        for warning in decision.warnings() {
            let _ = writeln!(told.0, "  warning: {warning}");
        }
        for (bundle, why) in &rejected {
            let _ = writeln!(told.1, "  {bundle} is no evidence: {why}");
        }
        if let Some(missed) = &missed {
            let _ = writeln!(told.1, "  there may be more evidence: {}", missed.what);
        }
        let mut policy = decision.to_json();
        let rejected = rejected.into_iter();
        let rejected =
            rejected.map(|(bundle, why)| serde_json::json!({ "bundle": bundle, "reason": why }));
        policy["rejected"] = rejected.collect();
        let digest = facts.artifact.as_ref().map(|artifact| artifact.digest.clone());
        Self {
            verdict,
            code,
            reason,
            artifact: digest,
            policy: Some(policy),
            told,
            next: decision.next().map(str::to_owned),
            facts: Some(facts),
            ..Self::without_evidence(file, verdict, "", String::new())
        }
    }

    /// A file that could not be looked at.
    pub(crate) fn undecided(file: &str, failure: &Failure) -> Self {
        Self::without_evidence(file, Verdict::Undecided, "UNREADABLE", failure.text())
    }

    /// Something that could not be looked at, for a reason with a code of its own.
    pub(crate) fn unread(file: &str, code: &'static str, failure: &Failure) -> Self {
        Self::without_evidence(file, Verdict::Undecided, code, failure.text())
    }

    /// A file that nothing speaks of.
    pub(crate) fn refused(file: &str, code: &'static str, reason: String) -> Self {
        Self::without_evidence(file, Verdict::Refused, code, reason)
    }

    fn without_evidence(file: &str, verdict: Verdict, code: &'static str, reason: String) -> Self {
        Self {
            verdict,
            code: Some(code),
            reason: Some(reason),
            file: file.to_owned(),
            bundle: None,
            artifact: None,
            predicate_type: None,
            signer: None,
            times: Vec::new(),
            entries: Vec::new(),
            deferred: None,
            checks: Vec::new(),
            policy: None,
            told: (String::new(), String::new()),
            next: None,
            facts: None,
        }
    }

    /// The result for a file whose digest stands in a signed list: what is proven of the list, and
    /// whether the digest is the file's.
    pub(crate) fn listed(
        &self,
        file: &str,
        list: &str,
        hash: HashAlgorithm,
        expected: &[u8],
        found: &[u8],
    ) -> Self {
        let (expected, found) = (named(hash, expected), named(hash, found));
        let same = expected == found;
        let reason = || format!("{list} lists another digest: expected {expected}, found {found}");
        let check = Check {
            name: "checksum",
            outcome: if same { "pass" } else { "fail" },
            expected: format!("the digest that {list} lists: {expected}"),
            found: Some(found.clone()),
        };
        Self {
            verdict: if same { Verdict::Accepted } else { Verdict::Refused },
            code: (!same).then_some("CHECKSUM_MISMATCH"),
            reason: (!same).then(reason),
            file: file.to_owned(),
            bundle: self.bundle.clone(),
            artifact: Some(found),
            predicate_type: None,
            signer: self.signer.clone(),
            times: self.times.clone(),
            entries: self.entries.clone(),
            deferred: None,
            checks: vec![check],
            policy: None,
            told: (String::new(), String::new()),
            next: None,
            facts: None,
        }
    }

    /// How far the evidence went: of several bundles for one file the furthest is told of.
    pub(crate) fn passed(&self) -> usize {
        let held = |check: &&Check| matches!(check.outcome, "pass" | "not-needed");
        self.checks.iter().filter(held).count()
    }

    fn text(&self, options: &Output, done: &str) -> String {
        let mut text = String::new();
        if options.explain {
            text.extend(self.checks.iter().map(Check::line));
            text.push_str(&output::visible(&self.told.1));
        }
        if self.verdict == Verdict::Accepted {
            let _ = writeln!(text, "{} {}", style(done).green().bold(), self.file);
            text.push_str(&output::visible(&self.told.0));
            if let Some(kind) = &self.predicate_type {
                let _ = writeln!(text, "  attested as {}", output::visible(kind));
            }
            text.extend(self.signer.iter().map(Signer::lines));
            for Time { time, authority } in &self.times {
                let _ = writeln!(text, "  before {time}, says {authority}");
            }
            for Entry { log, index, .. } in &self.entries {
                let _ = writeln!(text, "  entry {index} of {log}");
            }
        }
        text
    }

    /// One line of a table.
    fn row(&self, done: &str, width: usize) -> String {
        let mark = match self.verdict {
            Verdict::Accepted => style(format!("{done:9}")).green(),
            Verdict::Refused => style("REFUSED  ".to_owned()).red().bold(),
            Verdict::Undecided => style("UNDECIDED".to_owned()).yellow().bold(),
        };
        let signer = self.signer.as_ref().map(|signer| signer.identity.as_str());
        let told = self.reason.as_deref().or(signer).unwrap_or_default();
        let (file, told) = (output::visible(&self.file), output::visible(told));
        format!("{mark}  {file:width$}  {}\n", told.replace('\n', " "))
    }
}

impl Results {
    pub(crate) fn new(results: Vec<Result>) -> Self {
        let count = |verdict| results.iter().filter(|result| result.verdict == verdict).count();
        let (refused, undecided) = (count(Verdict::Refused), count(Verdict::Undecided));
        let verdict = match (refused, undecided, results.is_empty()) {
            (0, 0, false) => Verdict::Accepted,
            (0, _, _) => Verdict::Undecided,
            _ => Verdict::Refused,
        };
        let accepted = count(Verdict::Accepted);
        Self { schema: SCHEMA, verdict, accepted, refused, undecided, results, trust: None }
    }

    /// The same, by the trust that these flags name.
    pub(crate) fn trusting(self, flags: &args::Trust) -> Self {
        Self { trust: Some(flags.clone()), ..self }
    }

    /// The facts that policies decided from, one JSON object a line.
    pub(crate) fn records(&self) -> String {
        let facts = self.results.iter().filter_map(|result| result.facts.as_ref());
        let record = |facts| serde_json::to_string(facts).expect("texts and numbers only") + "\n";
        facts.map(record).collect()
    }

    /// Prints them, and gives the exit status. `done` says what an accepted one is.
    pub(crate) fn print(
        &self,
        options: &Output,
        done: &str,
    ) -> std::result::Result<ExitCode, Failure> {
        if options.output == args::Format::Json {
            let json = serde_json::to_string(self).expect("texts and numbers only");
            output::print(&format!("{json}\n"))?;
            return Ok(self.status());
        }
        if let [result] = self.results.as_slice() {
            output::print(&result.text(options, done))?;
            return match &result.reason {
                None => Ok(self.status()),
                Some(reason) => {
                    let message = format!("{}: {reason}", result.file);
                    Err(match (result.verdict, result.code, &result.bundle) {
                        (Verdict::Refused, Some("LOG_ENTRY_MISSING"), Some(bundle)) => {
                            Failure::no(message).hint(format!(
                                "what was signed with --defer is completed by `countersign log submit {bundle}`; \
                                 signatures that are logged nowhere are verified with --log-threshold 0"
                            ))
                        }
                        (Verdict::Refused, Some("SCT_MISSING"), _) => Failure::no(message).hint(
                            "certificates of an authority without certificate log are verified with \
                             --certificate-log-threshold 0",
                        ),
                        (_, Some("KEY_NEEDED"), _) => {
                            Failure::unclear(message).hint("give it with --key FILE")
                        }
                        (
                            Verdict::Refused,
                            Some(
                                "TIMESTAMP_AUTHORITY_UNKNOWN"
                                | "CERTIFICATE_AUTHORITY_UNKNOWN"
                                | "CERTIFICATE_LOG_UNKNOWN"
                                | "LOG_UNKNOWN",
                            ),
                            _,
                        ) => {
                            let failure = Failure::no(message);
                            let hint = self.trust.as_ref().map(trust::renewal);
                            hint.into_iter().fold(failure, Failure::hint)
                        }
                        (Verdict::Refused, Some("POLICY_REFUSED"), _) => {
                            let explain = "--explain tells all of why".to_owned();
                            let hints =
                                [result.next.clone(), (!options.explain).then_some(explain)];
                            let hints: Vec<_> = hints.into_iter().flatten().collect();
                            match hints.is_empty() {
                                true => Failure::no(message),
                                false => Failure::no(message).hint(hints.join("; ")),
                            }
                        }
                        (
                            Verdict::Refused,
                            Some("SIGNATURE_MISSING" | "ATTESTATION_MISSING"),
                            _,
                        ) => {
                            let hint =
                                format!("`countersign tree {}` shows what does", result.file);
                            Failure::no(message).hint(hint)
                        }
                        (Verdict::Refused, ..) => Failure::no(message),
                        _ => Failure::unclear(message),
                    })
                }
            };
        }
        let width = self.results.iter().map(|result| result.file.chars().count()).max();
        let width = width.unwrap_or_default().min(60);
        let mut text = String::new();
        for result in &self.results {
            text.push_str(&result.row(done, width));
            if options.explain {
                text.extend(result.checks.iter().map(Check::line));
                text.push_str(&output::visible(&result.told.1));
            }
        }
        let Self { accepted, refused, undecided, .. } = self;
        let _ = writeln!(text, "{accepted} {done}, {refused} refused, {undecided} undecided");
        output::print(&text)?;
        Ok(self.status())
    }

    fn status(&self) -> ExitCode {
        ExitCode::from(match self.verdict {
            Verdict::Accepted => YES,
            Verdict::Refused => NO,
            Verdict::Undecided => UNCLEAR,
        })
    }
}

fn named(hash: HashAlgorithm, digest: &[u8]) -> String {
    format!("{}:{}", hash.short_name(), hex(digest))
}

impl Check {
    fn new((check, outcome): &(verify::Check, Outcome)) -> Self {
        let (outcome, found) = match outcome {
            Outcome::Pass(found) => ("pass", Some(found.clone())),
            Outcome::Fail(reason) => ("fail", Some(reason.clone())),
            Outcome::NotNeeded(why) => ("not-needed", Some(why.clone())),
            Outcome::NotReached => ("not-reached", None),
        };
        Self { name: check.name(), outcome, expected: check.expectation().to_owned(), found }
    }

    fn line(&self) -> String {
        let mark = match self.outcome {
            "pass" => style("pass       ").green(),
            "fail" => style("FAIL       ").red().bold(),
            "not-needed" => style("not needed ").dim(),
            _ => style("not reached").dim(),
        };
        let told = match (self.outcome, &self.found) {
            ("pass" | "not-needed", Some(found)) => found.clone(),
            (_, Some(found)) => format!("expected: {}; found: {found}", self.expected),
            (_, None) => format!("expected: {}", self.expected),
        };
        format!("  {mark}  {:16}{}\n", self.name, output::visible(&told))
    }
}
