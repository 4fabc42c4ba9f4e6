//! Witness policies from files: whose cosignatures are enough.

use crate::args::witness::Witnesses as Flags;
use crate::failure::Failure;
use crate::trust::read_bounded;
use countersign_log::witness::{Config, Witnesses};
use countersign_verify::limits::MAX_WITNESS_POLICY;
use countersign_verify::witness::Policy;
use std::path::Path;
use std::sync::Arc;

/// Reads a witness policy.
pub(crate) fn read(path: &Path) -> Result<Policy, Failure> {
    let unclear = |error: &dyn std::fmt::Display| {
        Failure::unclear(format!("the witness policy {}: {error}", path.display()))
    };
    let bytes = read_bounded(path, MAX_WITNESS_POLICY)?;
    let text = String::from_utf8(bytes).map_err(|_| unclear(&"expected UTF-8"))?;
    Policy::parse(&text).map_err(|error| unclear(&error))
}

/// The witnesses of an instance's log, as the flags have them.
pub(crate) fn witnesses(flags: &Flags) -> Result<Option<Arc<Witnesses>>, Failure> {
    let Some(path) = &flags.witness_policy else { return Ok(None) };
    let (policy, timeout) = (read(path)?, flags.witness_timeout);
    let witnesses =
        Witnesses::new(Config { policy, timeout, lacking: flags.witness_lacking.into() });
    let witnesses = witnesses.map_err(|error| {
        Failure::unclear(format!("the witness policy {}: {error}", path.display()))
    })?;
    Ok(Some(Arc::new(witnesses)))
}
