//! `countersign log search`, and what goes with it.

use super::Which;
use crate::args::{Format, Trust};
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// What to search for: an entry must have all that is given.
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Search {
    /// A file that the entries are about, by its SHA-256; what an attestation is about is not in the log
    #[arg(group = "what", conflicts_with = "digest")]
    pub(crate) file: Option<PathBuf>,
    /// The digest that they are about: of the artifact; for DSSE entries of envelope or payload
    #[arg(long, group = "what", value_name = "sha256:HEX")]
    pub(crate) digest: Option<String>,
    /// Who signed: a subject alternative name, of either case; * stands for anything
    #[arg(long, group = "what", value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Who vouched for the signer: the OIDC issuer; * stands for anything
    #[arg(long, group = "what", value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// The signing certificate's serial number
    #[arg(long, group = "what", value_name = "HEX")]
    pub(crate) serial: Option<String>,
    /// The key that verifies the entry: a PEM file, or SHA-256 of its SubjectPublicKeyInfo
    #[arg(long, group = "what", value_name = "FILE|sha256:HEX")]
    pub(crate) key: Option<String>,
    /// The kind of entry: hashedrekord, dsse or intoto, with or without a version
    #[arg(long, group = "what", value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Not before this time or day: when the entry was integrated, or its certificate begins
    #[arg(long, group = "what", value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Not after this time or day
    #[arg(long, group = "what", value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Stop after so many entries [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Go on where an earlier search ended: the `resume` of one of its lines
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume: Option<String>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// How to print it; json prints a line for each entry, and a last one
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Reindex {
    /// A directory of `countersign dev`, whose server does not run
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Consistency {
    /// The older tree: a signed checkpoint in a file, or a size
    #[arg(long, value_name = "CHECKPOINT|SIZE")]
    pub(crate) from: String,
    /// The newer tree [default: the log's latest checkpoint]
    #[arg(long, value_name = "CHECKPOINT|SIZE")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// The first entry
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) from: u64,
    /// The entry behind the last [default: the log's size]
    #[arg(long, value_name = "INDEX")]
    pub(crate) to: Option<u64>,
    /// Where to write the evidence
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyExport {
    /// The evidence
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}
