//! Why a decision is what it is: a tree of what was asked and found, as text and as JSON.

use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::{self, Write as _};

/// How a question was answered.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No.
    Fail,
    /// It cannot be told.
    Undecided,
    /// Yes.
    Pass,
}

/// Why something is refused: stable codes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Code {
    /// The signer is in none of the roles.
    NoRole,
    /// A claim is not what the role wants.
    ClaimMismatch(&'static str),
    /// The role may not do this to that.
    NotGranted,
    /// Something else than what the certificate was asked for.
    IntentMismatch,
    /// A prohibition, by name.
    DeniedBy(String),
    /// The role was retired before.
    RoleRetired,
    /// No proof of a log entry.
    NotLogged,
    /// Too few witnesses.
    WitnessShort,
    /// No timestamp by an authority.
    NotTimestamped,
    /// In the log for too short a time.
    TooYoung,
    /// Proof that did not come with the bundle.
    NotBundled,
    /// Too long ago.
    TooOld,
    /// Too few people, or too few of several needs.
    KOfNShort,
    /// There is no signature of the artifact.
    SignatureMissing,
    /// There is no attestation of this kind.
    PredicateMissing,
    /// The builder is not believed to build at this level.
    LevelShort,
    /// A condition does not hold.
    CheckFailed,
    /// Named by a tag, which may change.
    NotPinned,
    /// The policy is no longer in force.
    PolicyExpired,
    /// An exception lets it through.
    ExceptionUsed,
    /// No rule is about the artifact.
    Unmatched,
    /// It cannot be told, for want of this.
    Undecided(String),
}

impl Code {
    /// Those that say all by their name.
    pub(crate) const PLAIN: [&str; 19] = [
        "no-role",
        "not-granted",
        "intent-mismatch",
        "role-retired",
        "not-logged",
        "witness-short",
        "not-timestamped",
        "too-young",
        "not-bundled",
        "too-old",
        "k-of-n-short",
        "signature-missing",
        "predicate-missing",
        "level-short",
        "check-failed",
        "not-pinned",
        "policy-expired",
        "exception-used",
        "unmatched",
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::ClaimMismatch(claim) => return write!(f, "claim-mismatch:{claim}"),
            Self::DeniedBy(name) => return write!(f, "denied-by:{name}"),
            Self::Undecided(what) => return write!(f, "undecided:{what}"),
            Self::NoRole => "no-role",
            Self::NotGranted => "not-granted",
            Self::IntentMismatch => "intent-mismatch",
            Self::RoleRetired => "role-retired",
            Self::NotLogged => "not-logged",
            Self::WitnessShort => "witness-short",
            Self::NotTimestamped => "not-timestamped",
            Self::TooYoung => "too-young",
            Self::NotBundled => "not-bundled",
            Self::TooOld => "too-old",
            Self::KOfNShort => "k-of-n-short",
            Self::SignatureMissing => "signature-missing",
            Self::PredicateMissing => "predicate-missing",
            Self::LevelShort => "level-short",
            Self::CheckFailed => "check-failed",
            Self::NotPinned => "not-pinned",
            Self::PolicyExpired => "policy-expired",
            Self::ExceptionUsed => "exception-used",
            Self::Unmatched => "unmatched",
        };
        f.write_str(name)
    }
}

/// One question with its answer, and the questions that it rests on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What was asked.
    pub what: String,
    /// The answer.
    pub outcome: Outcome,
    /// Why not.
    pub code: Option<Code>,
    /// What was expected, where that is one thing.
    pub expected: Option<String>,
    /// What was found, or what is to be said.
    pub found: Option<String>,
    /// What it rests on.
    pub because: Vec<Step>,
    /// What to do about it.
    pub next: Option<String>,
    /// Of several ways that are not there, how near this one is; told by their order alone.
    pub(crate) nearness: Nearness,
}

/// How near something came: how far its evidence got, whether by the right root, and how much of it fits.
pub(crate) type Nearness = (u8, bool, usize);

impl Step {
    pub(crate) fn new(what: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            what: what.into(),
            outcome,
            code: None,
            expected: None,
            found: None,
            because: Vec::new(),
            next: None,
            nearness: Nearness::default(),
        }
    }

    pub(crate) fn pass(what: impl Into<String>) -> Self {
        Self::new(what, Outcome::Pass)
    }

    /// A no, or with [`Code::Undecided`] no answer.
    pub(crate) fn no(what: impl Into<String>, code: Code) -> Self {
        let outcome = match code {
            Code::Undecided(_) => Outcome::Undecided,
            _ => Outcome::Fail,
        };
        Self { code: Some(code), ..Self::new(what, outcome) }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn because(mut self, because: Vec<Self>) -> Self {
        self.because = because;
        self
    }

    /// The first leaf that is to blame for the answer.
    #[must_use]
    pub fn culprit(&self) -> Option<&Self> {
        if self.outcome == Outcome::Pass {
            return None;
        }
        let same = self.because.iter().find(|step| step.outcome == self.outcome);
        let below = same.or_else(|| self.because.iter().find(|step| step.outcome != Outcome::Pass));
        below.and_then(Self::culprit).or(Some(self))
    }

    /// What it expected and found, a sentence without its end.
    #[must_use]
    pub fn sentence(&self) -> String {
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => {
                format!("{}: wanted {expected}, got {found}", self.what)
            }
            (Some(expected), None) => format!("{}: wanted {expected}, got nothing", self.what),
            (None, Some(found)) => format!("{}: {found}", self.what),
            (None, None) => self.what.clone(),
        }
    }

    pub(crate) fn write(&self, text: &mut String, depth: usize) {
        let mark = match self.outcome {
            Outcome::Pass => "ok",
            Outcome::Fail => "NO",
            Outcome::Undecided => "UNDECIDED",
        };
        let line = format!("{}{}", "  ".repeat(depth), self.what);
        let dots = ".".repeat(58_usize.saturating_sub(line.chars().count()).max(3));
        let _ = write!(text, "{line} {dots} {mark}");
        match (&self.expected, &self.found) {
            (Some(expected), found) if self.outcome != Outcome::Pass => {
                let found = found.as_deref().unwrap_or("nothing");
                let _ = write!(text, "   wanted {expected}, got {found}");
            }
            (_, Some(found)) => {
                let _ = write!(text, "   {found}");
            }
            _ => {}
        }
        text.push('\n');
        for step in &self.because {
            step.write(text, depth + 1);
        }
    }

    /// The same tree for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "what": self.what, "outcome": self.outcome });
        let texts = [
            ("code", self.code.as_ref().map(ToString::to_string)),
            ("expected", self.expected.clone()),
            ("found", self.found.clone()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                object[name] = text.into();
            }
        }
        if !self.because.is_empty() {
            object["because"] = self.because.iter().map(Self::to_json).collect();
        }
        object
    }
}
