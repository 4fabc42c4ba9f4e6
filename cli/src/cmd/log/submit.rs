//! `countersign log submit`: completes bundles whose logging was deferred.

use crate::args::log::Submit as Args;
use crate::cmd::sign::{patience, services};
use crate::failure::Failure;
use crate::output::NewFile;
use crate::report::{self, Results};
use crate::runtime::block_on;
use crate::trust::read_bounded;
use countersign_client::complete::{self, Completed, complete};
use countersign_client::sign::Patience;
use countersign_client::trust::Services;
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::{Bundle, TrustedRoot};
use std::path::Path;
use std::process::ExitCode;

/// Those that can be completed are, whatever becomes of the others.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (root, services) = services(&args.trust, args.signing_config.as_deref())?;
    let patience = patience(args.timeout);
    let results = args.bundles.iter().map(|path| {
        let name = path.display().to_string();
        match submit(path, &services, &root, patience) {
            Ok(Completed { report, .. }) => report::Result::new(&name, &name, &report, Vec::new()),
            Err(Refusal::No(code, reason)) => report::Result::refused(&name, code, reason),
            Err(Refusal::Unclear(failure)) => report::Result::undecided(&name, &failure),
        }
    });
    Results::new(results.collect()).trusting(&args.trust).print(&args.output, "logged")
}

enum Refusal {
    No(&'static str, String),
    Unclear(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Unclear(failure)
    }
}

fn submit(
    path: &Path,
    services: &Services,
    root: &TrustedRoot,
    patience: Patience,
) -> Result<Completed, Refusal> {
    let json = read_bounded(path, MAX_BUNDLE)?;
    let bundle = Bundle::parse(&json);
    let bundle = bundle.map_err(|error| Refusal::No("BUNDLE_MALFORMED", error.to_string()))?;
    // Opened first: what cannot be kept should not be logged.
    let file = NewFile::begin(path)?;
    let completed = block_on(complete(&bundle, services, root, patience))?;
    let completed = completed.map_err(|error| match &error {
        complete::Error::Log(away) if away.is_away() => {
            Refusal::Unclear(Failure::unclear(error.to_string()).hint("the bundle is as it was"))
        }
        complete::Error::Http(_) => Refusal::Unclear(Failure::unclear(error.to_string())),
        complete::Error::Unverified(report) => {
            let code = report.result().err().map_or("NOT_LOGGED", |error| error.code());
            Refusal::No(code, error.to_string())
        }
        _ => Refusal::No("NOT_LOGGED", error.to_string()),
    })?;
    if !completed.already {
        file.finish(format!("{}\n", completed.bundle.to_json()).as_bytes())?;
    }
    Ok(completed)
}
