//! `countersign log fsck`.

use super::remote::Remote;
use crate::args::Format;
use crate::args::log::Fsck as Args;
use crate::failure::Failure;
use crate::trust::{self, block_on};
use crate::{instance, output};
use countersign_log::fsck::{self, Report, fsck};
use countersign_log::store::{Folder, Source};
use countersign_log::{Format as Records, LogKey};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some(dir) = &args.dir else {
        let remote = Remote::new(&trust::load(&args.trust)?.root()?.0)?;
        let (name, key) = (remote.log.base_url().to_owned(), remote.key()?);
        check(&name, &remote, &key, Records::Entries, args.output)?;
        return Ok(ExitCode::SUCCESS);
    };
    let keys = instance::log_keys(dir)?;
    for (name, key, format) in [
        ("log", keys.signatures, Records::Entries),
        ("log-v1", keys.older, Records::Timed),
        ("ct", keys.certificates, Records::Data),
    ] {
        check(name, &Folder::new(dir.join(name)), &key, format, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(
    name: &str,
    source: &dyn Source,
    key: &LogKey,
    format: Records,
    output: Format,
) -> Result<(), Failure> {
    match block_on(fsck(source, key, format))? {
        Ok(Report { size, root, repeated, .. }) => output::print(&match output {
            Format::Json => format!(
                "{}\n",
                json!({ "schema": "countersign.fsck/1", "log": name, "whole": true, "size": size,
                    "root": root.to_string(), "repeated": repeated })
            ),
            Format::Text => {
                format!("whole: {name}, {size} entries, {repeated} repeated, root {root}\n")
            }
        }),
        Err(error) => {
            if output == Format::Json {
                // Not read to the end: neither whole nor broken.
                let whole = (!matches!(error, fsck::Error::Source(_))).then_some(false);
                let json = json!({ "schema": "countersign.fsck/1", "log": name, "whole": whole,
                    "path": error.path(), "reason": error.to_string() });
                output::print(&format!("{json}\n"))?;
            }
            let message = format!("{name}: {error}");
            Err(match error {
                fsck::Error::Source(_) => Failure::unclear(message),
                _ => Failure::no(message),
            })
        }
    }
}
