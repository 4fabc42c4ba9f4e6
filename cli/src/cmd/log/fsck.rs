//! `countersign log fsck`.

use super::remote::Remote;
use crate::args::Format;
use crate::args::log::Fsck as Args;
use crate::failure::Failure;
use crate::instance::{self, Stored};
use crate::runtime::on_all_cores;
use crate::{output, trust};
use countersign_log::fsck::{self, Report, fsck};
use countersign_log::store::{Folder, Source};
use countersign_log::{Format as Records, LogKey};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some(dir) = &args.dir else {
        let root = trust::load(&args.trust)?.root()?.0;
        let remote = match args.certificates {
            true => Remote::of_certificates(&root)?,
            false => Remote::new(&root, args.rekor_v1)?,
        };
        let (name, key, format) = (remote.log.base_url().to_owned(), remote.key(), remote.format);
        check(&name, Arc::new(remote), &key, format, args.output)?;
        return Ok(ExitCode::SUCCESS);
    };
    for Stored { folder, key, format, .. } in instance::stored_logs(dir)? {
        check(&folder, Arc::new(Folder::new(dir.join(&folder))), &key, format, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// On all cores: a log of a million entries is read in seconds.
fn check(
    name: &str,
    source: Arc<dyn Source>,
    key: &LogKey,
    format: Records,
    output: Format,
) -> Result<(), Failure> {
    let bar = bar(name);
    let progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let read = on_all_cores(fsck(&source, key, format, progress))?;
    bar.finish_and_clear();
    match read {
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

/// Shown on a terminal only.
fn bar(name: &str) -> ProgressBar {
    if !console::user_attended_stderr() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("reading {msg} {bar:30} {pos}/{len} entries {eta}");
    let style = style.unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(name.to_owned())
}
