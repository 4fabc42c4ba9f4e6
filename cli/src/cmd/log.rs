//! `countersign log`: a log as an outsider reads it, from its published tiles and its public key. One verb
//! a file.

mod consistency;
mod export;
mod fsck;
mod hammer;
mod info;
mod monitor;
mod prove;
mod reindex;
pub(super) mod remote;
mod rotate;
mod search;
mod submit;
mod verify_export;

use crate::args::log::Log as Args;
use crate::failure::Failure;
use std::process::ExitCode;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match args {
        Args::Info(args) => info::run(args),
        Args::Get(args) => prove::get(args),
        Args::Prove(args) => prove::run(args),
        Args::Search(args) => search::run(args),
        Args::Consistency(args) => consistency::run(args),
        Args::Export(args) => export::run(args),
        Args::VerifyExport(args) => verify_export::run(args),
        Args::Reindex(args) => reindex::run(args),
        Args::Fsck(args) => fsck::run(args),
        Args::Rotate(args) => rotate::run(args),
        Args::Freeze(args) => rotate::freeze(args),
        Args::Monitor(args) => monitor::run(args),
        Args::Submit(args) => submit::run(args),
        Args::Hammer(args) => hammer::run(args),
    }
}
