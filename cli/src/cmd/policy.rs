//! `countersign policy`: what a policy says, before anything is decided by it. One verb a file.

mod accept;
mod check;
mod import;
mod over_log;
mod publish;
mod replay;
mod test;

use crate::args::Verification;
use crate::args::policy::Policy as Args;
use crate::cmd::verify;
use crate::failure::Failure;
use countersign_policy::{Artifact, Kind};
use std::process::ExitCode;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args {
        Args::Check(args) => check::run(args),
        Args::Test(args) => test::run(args),
        Args::Explain(args) => explain(&args.verification),
        Args::Import(args) => import::run(args),
        Args::Publish(args) => publish::run(args),
        Args::Accept(args) => accept::run(args),
        Args::Replay(args) => replay::run(args),
    }
}

/// Decides about files, and tells all of why.
fn explain(args: &Verification) -> Result<ExitCode, Failure> {
    let is_image = |file: &&std::path::PathBuf| {
        let named = Artifact::named(&file.to_string_lossy());
        !file.exists() && named.kind == Kind::Image
    };
    match args.files.iter().find(is_image) {
        Some(image) => {
            let image = image.display();
            Err(Failure::unclear(format!("{image} is no file here; it may be an image"))
                .hint(format!("countersign verify --policy FILE --explain {image}")))
        }
        None => verify::explain(args),
    }
}
