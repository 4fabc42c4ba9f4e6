//! `countersign policy accept`: the next version of a policy takes the place of the one in force, if its owners
//! signed it and it follows.
//!
//! The file of the policy in force is all the state there is: its serial number and digest are what the next
//! version is compared with. So nobody brings an old version back by way of this command.

use crate::args::policy::Accept as Args;
use crate::cmd::verify::Bundles;
use crate::failure::Failure;
use crate::grounds::Grounds;
use crate::judge::{Content, Gathered, Judge};
use crate::output::{self, NewFile};
use crate::policy_file;
use crate::trust::{self, read_bounded};
use countersign_policy::yaml::MAX_TEXT;
use countersign_policy::{AcceptError, Policy, accept};
use countersign_verify::{Artifact, Thresholds};
use jiff::Timestamp;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // These bytes are parsed, verified and kept, whatever the file is a moment later.
    let text = read_bounded(&args.file, MAX_TEXT)?;
    let new = policy_file::read_text(&args.file, text.clone())?;
    // One at a time, or an older version could take the place of one that came in between.
    let folder = output::folder(&args.into);
    let lock = File::open(folder).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| {
        Failure::file("lock", folder, &error).hint("give a FILE in a folder that can be written")
    })?;
    let stored = match args.into.exists() {
        true => Some(policy_file::read(&args.into)?),
        false => None,
    };
    let bundles = Bundles::all_beside(&args.file)?;
    let (artifact, digest) = (Artifact::from_bytes(&text), countersign_policy::digest(&text));
    let roots = trust::load(&args.trust)?.roots;
    let own = Grounds::new(roots, Thresholds::CERTIFICATE, None);
    // Each version names the trust roots of its own owners.
    let gather = |by: &Policy, path: &Path| {
        let named = policy_file::trust(by, path)?;
        let judge = Judge::new(by.clone(), own.clone(), named, Thresholds::KEY);
        let mut gathered = Gathered::default();
        for (name, bundle) in bundles.about(&artifact) {
            judge.weigh(&mut gathered, name, bundle, &Content::File(&artifact, &digest));
        }
        Ok::<_, Failure>(gathered)
    };
    let by_stored = stored.as_ref().map(|stored| gather(stored, &args.into)).transpose()?;
    let by_stored = by_stored.unwrap_or_default().evidence;
    let by_new = gather(&new, &args.file)?;
    let (name, serial) = (&new.name, new.serial);
    let pinned = args.digest.as_deref();
    let (into, file) = (args.into.display(), args.file.display());
    let now = Timestamp::now();
    accept(stored.as_ref(), &new, pinned, &by_stored, &by_new.evidence, now).map_err(|error| {
        let mut message = format!("{name} serial {serial} is not taken: {error}");
        for (name, why) in &by_new.rejected {
            message.push_str(&format!("\n  {name} is no evidence: {why}"));
        }
        let failure = Failure::no(message);
        match error {
            AcceptError::FirstUse => failure.hint(format!(
                "{into} does not exist, so this would be the first: compare {} with what its owners say, and give --digest; or name the policy in force",
                new.digest
            )),
            AcceptError::NoOwners { .. } => failure.hint(
                "add owners: {roles: [ROLE], at-least: N}; where the version in force has none, an administrator removes it and begins again with --digest",
            ),
            AcceptError::Owners { .. } => failure.hint(format!(
                "each owner runs `countersign policy publish {file} --bundle {file}.NAME.sigstore.json`"
            )),
            _ => failure,
        }
    })?;
    NewFile::replacing(&args.into)?.finish(&text)?;
    // From here on a restart finds the new version, whole; before it the old one.
    output::print(&format!("{name} serial {serial} is in force in {}\n", args.into.display()))?;
    Ok(ExitCode::SUCCESS)
}
