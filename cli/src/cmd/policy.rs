//! `countersign policy`: what a policy says, before anything is decided by it. One verb a file.

mod accept;
mod check;
mod import;
mod over_log;
mod publish;
mod replay;
mod test;

use crate::args::policy::Policy as Args;
use crate::cmd::verify;
use crate::failure::Failure;
use std::process::ExitCode;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args {
        Args::Check(args) => check::run(args),
        Args::Test(args) => test::run(args),
        Args::Explain(args) => verify::explain(&args.verification),
        Args::Import(args) => import::run(args),
        Args::Publish(args) => publish::run(args),
        Args::Accept(args) => accept::run(args),
        Args::Replay(args) => replay::run(args),
    }
}
