//! One verb a file.

mod admission;
mod audit;
mod backup;
mod bundle;
mod ca;
mod conformance;
mod demo;
mod dev;
mod doctor;
mod image;
mod init;
mod log;
mod policy;
mod serve;
mod sign;
mod token;
mod trust;
mod verify;
mod witness;

use crate::args::{Args, Command, Deferred};
use crate::failure::Failure;
use crate::output;
use crate::runtime::block_on;
use clap::CommandFactory as _;
use countersign_client::http::{self, Http};
use std::process::ExitCode;

/// Runs a command.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Demo => demo::run(),
        Command::Dev(Deferred(args)) => dev::run(args),
        Command::Doctor(Deferred(args)) => doctor::run(&args),
        Command::Init(Deferred(args)) => init::run(&args),
        Command::Serve(Deferred(args)) => serve::run(args),
        Command::Ca(Deferred(args)) => ca::run(&args),
        Command::Token(Deferred(args)) => token::run(&args),
        Command::SignBlob(Deferred(args)) => sign::blob(&args),
        Command::VerifyBlob(Deferred(args)) => verify::blobs(&args),
        Command::AttestBlob(Deferred(args)) => sign::attestation(&args),
        Command::VerifyBlobAttestation(Deferred(args)) => verify::attestations(&args),
        Command::Sign(Deferred(args)) => image::sign(&args),
        Command::Verify(Deferred(args)) => image::signatures(&args),
        Command::Attest(Deferred(args)) => image::attest(&args),
        Command::VerifyAttestation(Deferred(args)) => image::attestations(&args),
        Command::Tree(Deferred(args)) => image::tree(&args),
        Command::Copy(Deferred(args)) => image::copy(&args),
        Command::Save(Deferred(args)) => image::save(&args),
        Command::Load(Deferred(args)) => image::load(&args),
        Command::Download(Deferred(args)) => image::download(&args),
        Command::Attach(Deferred(args)) => image::attach(&args),
        Command::Clean(Deferred(args)) => image::clean(&args),
        Command::Conformance(Deferred(args)) => conformance::run(&args),
        Command::Trust(Deferred(args)) => trust::run(&args),
        Command::Bundle(Deferred(args)) => bundle::run(&args),
        Command::Log(Deferred(args)) => log::run(&args),
        Command::Audit(Deferred(args)) => audit::run(&args),
        Command::Witness(Deferred(args)) => witness::run(args),
        Command::Backup(Deferred(args)) => backup::run(&args),
        Command::Restore(Deferred(args)) => backup::restore(&args),
        Command::Policy(Deferred(args)) => policy::run(&args),
        Command::ContainerdVerify(Deferred(args)) => admission::containerd_verify(&args),
        Command::Health(Deferred(args)) => health(&args.instance),
        Command::Completion { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut shown(), "countersign", &mut text);
            output::print(&String::from_utf8_lossy(&text))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// All commands with all that they take, so that `help` knows what they consist of.
fn whole() -> clap::Command {
    Args::command().mut_subcommands(|command| {
        let name = format!("countersign {}", command.get_name());
        let mut command =
            command.bin_name(name).version(env!("CARGO_PKG_VERSION")).propagate_version(true);
        command.build();
        command
    })
}

/// All but the hidden commands, which are nobody's to complete.
fn shown() -> clap::Command {
    let all = whole();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("countersign").args(all.get_arguments()).subcommands(commands)
}

fn health(instance: &url::Url) -> Result<ExitCode, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let url = instance.join("/readyz").map_err(|error| unclear(&error))?;
    let http = Http::new([&url]).map_err(|error| unclear(&error))?;
    block_on(http.once(&url))?.map_err(|error| match error {
        http::Error::Status { .. } => Failure::no(format!("not ready: {error}")),
        _ => Failure::unclear(format!("cannot tell whether it is ready: {error}")),
    })?;
    output::print("ready\n")?;
    Ok(ExitCode::SUCCESS)
}
