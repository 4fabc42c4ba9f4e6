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

/// A server takes and gives back memory on several threads thousands of times a second: the system's allocator
/// then costs a sixth of all, and that of musl, which images are built with, many times as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match cmd::run(args) {
        Ok(code) => code,
        Err(failure) => failure.exit(),
    }
}
