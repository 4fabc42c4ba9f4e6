//! `countersign audit`.

use super::Format;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Find issuances, refusals and administrative acts on record; the whole record is read and checked
    Search(Search),
    /// Read record and certificate log, and check that each is whole and that every certificate is in both
    Verify(Verify),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The instance's directory; its server may run
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

/// What to search for: an entry must have all that is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Search {
    /// The instance's directory; its server may run
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Whom the token names, to the letter
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// The OIDC issuer, to the letter
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// A certificate's serial number
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: Option<String>,
    /// A key, SHA-256 of its SubjectPublicKeyInfo: one that was certified, or one of an authority
    #[arg(long, value_name = "SHA256")]
    pub(crate) key: Option<String>,
    /// What came of it
    #[arg(long)]
    pub(crate) outcome: Option<Outcome>,
    /// What refused: a code such as WRONG_AUDIENCE or not-granted, or the name of a policy's rule
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Not before this time, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// How to print it; json prints a line for each entry
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Outcome {
    /// A serial number was taken, before anything was signed
    Begun,
    /// A certificate was issued
    Issued,
    /// A request was refused or failed
    Refused,
    /// A policy in a dry run would have refused a request, which was let through
    WouldRefuse,
    /// Its operators had the instance do something
    Act,
}
