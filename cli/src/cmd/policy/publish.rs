//! `countersign policy publish`: an owner signs the next version of a policy, and that is logged.

use crate::args::policy::Publish as Args;
use crate::cmd::sign;
use crate::failure::Failure;
use crate::policy_file;
use countersign_policy::POLICY;
use jiff::Timestamp;
use serde_json::json;
use std::process::ExitCode;
use std::slice;

/// What nobody could accept is not signed.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let policy = policy_file::read(&args.file)?;
    let Some(expires) = policy.expires.filter(|&expires| expires > Timestamp::now()) else {
        return Err(Failure::no(
            "a policy that is published needs the key \"expires\", with a time to come",
        ));
    };
    if policy.owners.is_none() {
        return Err(Failure::no(
            "a policy that is published needs the key \"owners\": who publishes the next",
        ));
    }
    let predicate = json!({ "policy": policy.name, "serial": policy.serial, "expires": expires,
        "previous": policy.previous });
    let keeping = args.keeping();
    sign::attest(&args.signing, &keeping, slice::from_ref(&args.file), POLICY, &predicate)
}
