//! What a verification found, check by check, for people and machines.

use crate::bundle;
use crate::verify::{Error, Verified};

/// The checks, in the order they are made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Check {
    /// The file is a bundle of a known generation.
    Bundle,
    /// The artifact has the digest that the bundle speaks of.
    Artifact,
    /// The signature holds over the artifact, by the key of the certificate or the one given.
    Signature,
    /// Trusted authorities say when the signature existed.
    Timestamp,
    /// A trusted authority issued the certificate, valid at each of those times.
    Certificate,
    /// A trusted log recorded the certificate.
    CertificateLog,
    /// The log's entry is about this artifact, signature and certificate.
    Entry,
    /// The entry is in the tree that a trusted log signed.
    Inclusion,
    /// Enough witnesses cosigned that tree.
    Witnesses,
}

impl Check {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Bundle,
        Self::Artifact,
        Self::Signature,
        Self::Timestamp,
        Self::Certificate,
        Self::CertificateLog,
        Self::Entry,
        Self::Inclusion,
        Self::Witnesses,
    ];

    /// A stable name for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Artifact => "artifact",
            Self::Timestamp => "timestamp",
            Self::Certificate => "certificate",
            Self::CertificateLog => "certificate-log",
            Self::Entry => "log-entry",
            Self::Inclusion => "inclusion",
            Self::Signature => "signature",
            Self::Witnesses => "witnesses",
        }
    }

    /// What must hold, a sentence.
    #[must_use]
    pub const fn expectation(self) -> &'static str {
        match self {
            Self::Bundle => "a bundle of a known generation, by a certificate or by the key given",
            Self::Artifact => "the artifact has the digest that the bundle speaks of",
            Self::Signature => "the signature holds over the artifact",
            Self::Timestamp => "trusted authorities say when the signature existed",
            Self::Certificate => {
                "a trusted authority issued the certificate, valid at each of those times"
            }
            Self::CertificateLog => "trusted logs recorded the certificate",
            Self::Entry => "a trusted log's entry is about this artifact, signature and signer",
            Self::Inclusion => "the entry is in the tree that the log signed",
            Self::Witnesses => "the witnesses demanded cosigned that tree",
        }
    }
}

/// How a check ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It holds; what was found.
    Pass(String),
    /// It does not hold; the reason, with what was expected and found.
    Fail(String),
    /// It does not apply, or was not demanded; why.
    NotNeeded(String),
    /// An earlier check failed.
    NotReached,
}

/// All checks with their outcomes, and the result.
#[derive(Clone, Debug)]
pub struct Report {
    checks: Vec<(Check, Outcome)>,
    result: Result<Verified, Error>,
}

impl Report {
    /// The report of a file that is no bundle.
    #[must_use]
    pub fn malformed(error: bundle::Error) -> Self {
        let mut recorder = Recorder::default();
        let result = recorder.record(Check::Bundle, Err(Error::Bundle(error)));
        recorder.finish(result)
    }

    /// Every check of [`Check::ALL`], in that order.
    #[must_use]
    pub fn checks(&self) -> &[(Check, Outcome)] {
        &self.checks
    }

    /// The verdict: what is proven, or the first reason that it is not.
    ///
    /// # Errors
    /// The reason of the check that failed.
    pub const fn result(&self) -> Result<&Verified, &Error> {
        self.result.as_ref()
    }

    /// How many checks were passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        let held = |(_, outcome): &&(Check, Outcome)| {
            matches!(outcome, Outcome::Pass(_) | Outcome::NotNeeded(_))
        };
        self.checks.iter().filter(held).count()
    }

    /// The verdict, by value.
    ///
    /// # Errors
    /// The reason of the check that failed.
    pub fn into_result(self) -> Result<Verified, Error> {
        self.result
    }
}

/// Collects outcomes while the procedure runs.
#[derive(Default)]
pub(crate) struct Recorder(Vec<(Check, Outcome)>);

impl Recorder {
    /// Records the outcome of `check`, and passes its value on.
    pub(crate) fn record<T>(
        &mut self,
        check: Check,
        outcome: Result<(T, String), Error>,
    ) -> Result<T, Error> {
        match outcome {
            Ok((value, found)) => {
                self.0.push((check, Outcome::Pass(found)));
                Ok(value)
            }
            Err(error) => {
                // What is refused out of turn leaves those before it unreached.
                let before = Check::ALL.iter().take_while(|other| **other != check);
                let skipped = before.skip(self.0.len());
                self.0.extend(skipped.map(|&check| (check, Outcome::NotReached)));
                self.0.push((check, Outcome::Fail(error.to_string())));
                Err(error)
            }
        }
    }

    /// Records that `check` does not apply.
    pub(crate) fn not_needed(&mut self, check: Check, why: &str) {
        self.0.push((check, Outcome::NotNeeded(why.to_owned())));
    }

    pub(crate) fn finish(mut self, result: Result<Verified, Error>) -> Report {
        let reached = self.0.len();
        self.0.extend(Check::ALL[reached..].iter().map(|&check| (check, Outcome::NotReached)));
        Report { checks: self.0, result }
    }
}
