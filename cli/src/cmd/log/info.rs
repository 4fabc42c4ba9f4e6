//! `countersign log info`.

use super::remote::Remote;
use crate::args::Format;
use crate::args::log::Info as Args;
use crate::failure::Failure;
use crate::output;
use countersign_verify::encoding::base64;
use countersign_verify::note::Note;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let remote = Remote::named(&args.which)?;
    let (log, key) = (remote.log.clone(), remote.key());
    let key = key.verifier_key().map(|key| key.to_string()).unwrap_or_default();
    let reader = remote.read()?;
    let (checkpoint, note) = (reader.head().checkpoint(), reader.head().note());
    let signatures = Note::parse(note).map(|note| note.signatures().len()).unwrap_or_default();
    output::print(&match args.output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.log/1", "log": log.base_url(),
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
            "logId": base64(log.id()), "key": key, "signatures": signatures })
        ),
        Format::Text => format!(
            "{}\n  origin {}\n  size {}\n  root {}\n  log ID {}\n  key {key}\n  checkpoint signed by the log's key, {signatures} signature lines\n",
            log.base_url(),
            checkpoint.origin,
            checkpoint.size,
            checkpoint.root,
            base64(log.id()),
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}
