//! The binary `countersign`: parse, run, exit.

mod admission;
mod args;
mod artifact;
mod cmd;
mod config;
mod control;
mod failure;
mod gate;
mod grounds;
mod identity;
mod idp;
mod instance;
mod judge;
mod logging;
mod output;
mod passphrase;
mod policy_file;
mod report;
mod runtime;
mod server;
mod trust;
mod witness_policy;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match cmd::run(args) {
        Ok(code) => code,
        Err(failure) => failure.exit(),
    }
}
