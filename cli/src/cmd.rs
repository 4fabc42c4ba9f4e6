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

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output;
use crate::trust::block_on;
use clap::CommandFactory as _;
use countersign_client::http::Http;
use std::process::ExitCode;

/// Runs a command.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Demo => demo::run(),
        Command::Dev(args) => dev::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Ca(args) => ca::run(&args),
        Command::Token(args) => token::run(&args),
        Command::SignBlob(args) => sign::blob(&args),
        Command::VerifyBlob(args) => verify::blobs(&args),
        Command::AttestBlob(args) => sign::attestation(&args),
        Command::VerifyBlobAttestation(args) => verify::attestations(&args),
        Command::Sign(args) => image::sign(&args),
        Command::Verify(args) => image::signatures(&args),
        Command::Attest(args) => image::attest(&args),
        Command::VerifyAttestation(args) => image::attestations(&args),
        Command::Tree(args) => image::tree(&args),
        Command::Copy(args) => image::copy(&args),
        Command::Save(args) => image::save(&args),
        Command::Load(args) => image::load(&args),
        Command::Download(args) => image::download(&args),
        Command::Attach(args) => image::attach(&args),
        Command::Clean(args) => image::clean(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Witness(args) => witness::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Policy(args) => policy::run(&args),
        Command::ContainerdVerify(args) => admission::containerd_verify(&args),
        Command::Health(args) => health(&args.instance),
        Command::Completion { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "countersign", &mut text);
            output::print(&String::from_utf8_lossy(&text))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn health(instance: &url::Url) -> Result<ExitCode, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let url = instance.join("/readyz").map_err(|error| unclear(&error))?;
    let http = Http::new([&url]).map_err(|error| unclear(&error))?;
    block_on(http.once(&url))?.map_err(|error| Failure::no(format!("not ready: {error}")))?;
    output::print("ready\n")?;
    Ok(ExitCode::SUCCESS)
}
