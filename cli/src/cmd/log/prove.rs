//! `countersign log get` and `log prove`: one entry, and the proof that it is there.

use super::remote::{Remote, refused};
use crate::args::log::Entry as Args;
use crate::failure::Failure;
use crate::output;
use crate::runtime::block_on;
use countersign_log::read::Proven;
use std::process::ExitCode;

pub(super) fn get(args: &Args) -> Result<ExitCode, Failure> {
    let (proven, _) = prove(args)?;
    let text = String::from_utf8_lossy(&proven.leaf).into_owned();
    output::print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (proven, note) = prove(args)?;
    output::print(&proof_file(&proven, &note))?;
    Ok(ExitCode::SUCCESS)
}

/// C2SP tlog-proof: complete in itself, but for the entry and the log's key.
fn proof_file(proven: &Proven, note: &str) -> String {
    let hashes: String = proven.proof.path().iter().map(|hash| format!("{hash}\n")).collect();
    format!("c2sp.org/tlog-proof@v1\nindex {}\n{hashes}\n{note}", proven.proof.leaf_index())
}

/// The entry at `index`, proven, and the checkpoint that the proof leads to.
fn prove(args: &Args) -> Result<(Proven, String), Failure> {
    let index = args.index;
    let reader = Remote::named(&args.which)?.read()?;
    let size = reader.head().checkpoint().size;
    let proven = block_on(reader.prove_inclusion(index))?;
    let proven = proven.map_err(refused)?;
    let proven = proven.ok_or_else(|| {
        Failure::no(format!("the log has {size} entries; there is none with index {index}"))
            .hint("indices count from 0")
    })?;
    Ok((proven, reader.head().note().to_owned()))
}
