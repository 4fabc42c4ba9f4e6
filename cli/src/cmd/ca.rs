//! `countersign ca`: the root, and the keys below it. One verb a file.

pub(super) mod ceremony;
mod explain_token;
pub(super) mod import;
mod rotate;

use crate::args::serve::{Ca, KeyRole};
use crate::failure::Failure;
use countersign_ca::ceremony::Role;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use std::process::ExitCode;

pub(crate) fn run(args: &Ca) -> Result<ExitCode, Failure> {
    match args {
        Ca::Ceremony(args) => ceremony::run(args)?,
        Ca::Import(args) => import::run(args)?,
        Ca::Rotate(args) => rotate::run(args)?,
        Ca::ExplainToken(args) => return explain_token::run(args),
    }
    Ok(ExitCode::SUCCESS)
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Issuing => Self::Issuing,
            KeyRole::Timestamps => Self::Timestamps,
        }
    }
}

/// SHA-256 in hexadecimal, as people compare it.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    hex(&HashAlgorithm::Sha256.digest(bytes))
}

/// A certificate in three lines of a transcript.
pub(super) fn describe(what: &str, der: &[u8]) -> Result<String, Failure> {
    let certificate =
        Certificate::parse(der).map_err(|error| Failure::unclear(format!("{what}: {error}")))?;
    Ok(format!(
        "{what}: valid from {} until {}\n  certificate SHA-256 {}\n  key SHA-256         {}\n",
        certificate.not_before(),
        certificate.not_after(),
        fingerprint(der),
        fingerprint(certificate.spki()),
    ))
}
