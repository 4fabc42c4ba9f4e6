//! `countersign policy import`.

use crate::args::policy::{Foreign, Import as Args};
use crate::failure::Failure;
use crate::output::{self, NewFile};
use crate::trust::read_bounded;
use countersign_policy::import::{cluster_image_policies, containers_policy, trust_policy};
use countersign_policy::yaml::MAX_TEXT;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let file = args.file.display();
    let text = String::from_utf8(read_bounded(&args.file, MAX_TEXT)?)
        .map_err(|_| Failure::unclear(format!("{file}: expected YAML in UTF-8")))?;
    let write = match args.format {
        Foreign::Cip => cluster_image_policies,
        Foreign::Notation => trust_policy,
        Foreign::PolicyJson => containers_policy,
    };
    let imported = write(&text, &args.name);
    let imported = imported.map_err(|mistakes| {
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| format!("{file}:{mistake}")).collect();
        Failure::no(format!("{file} cannot be written as our policy\n{}", lines.join("\n")))
    })?;
    match &args.to {
        None => output::print(&imported.policy)?,
        Some(path) => NewFile::replacing(path)?.finish(imported.policy.as_bytes())?,
    }
    for note in &imported.notes {
        eprintln!("note: {}", output::visible(note));
    }
    Ok(ExitCode::SUCCESS)
}
