//! `countersign log fsck`.

use super::remote::Remote;
use crate::args::Format;
use crate::args::log::Fsck as Args;
use crate::failure::Failure;
use crate::instance::{self, Stored, known};
use crate::runtime::on_all_cores;
use crate::{output, trust};
use countersign_log::fsck::{self, Report, fsck};
use countersign_log::store::{Folder, Source};
use countersign_log::{Format as Records, LogKey};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut failures = Vec::new();
    match &args.dir {
        None => {
            let root = trust::load(&args.which.trust)?.root()?.0;
            let mut shards = match args.certificates {
                true => Remote::certificates(&root)?,
                false => Remote::signatures(&root, args.which.rekor_v1)?,
            };
            if args.which.shard.is_some() {
                shards = vec![Remote::shard(shards, args.which.shard)?];
            }
            for remote in shards {
                let (name, key, format) = (remote.name(), remote.key(), remote.format);
                let whole = check(&name, Arc::new(remote), &key, format, None, args.output);
                failures.extend(whole.err());
            }
        }
        Some(dir) => {
            for Stored { folder, key, format, .. } in instance::stored_logs(dir)? {
                let path = dir.join(&folder);
                let source = Arc::new(Folder::new(path.clone()));
                let whole = check(&folder, source, &key, format, Some(&path), args.output);
                failures.extend(whole.err());
            }
        }
    }
    // One that is damaged does not keep the others from being read, and says more than one that is away.
    let Some(last) = failures.iter().position(Failure::is_no).or(failures.len().checked_sub(1))
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let last = failures.swap_remove(last);
    for failure in failures {
        let _ = failure.exit(); // prints; the status is that of the last
    }
    Err(last)
}

/// On all cores: a log of a million entries is read in seconds.
fn check(
    name: &str,
    source: Arc<dyn Source>,
    key: &LogKey,
    format: Records,
    folder: Option<&Path>,
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
            let failure = match error {
                fsck::Error::Source(_) => Failure::unclear(message),
                _ => Failure::no(message),
            };
            Err(match (folder, error.path()) {
                (Some(folder), Some(path)) => failure.hint(known::damaged(folder, path)),
                _ => failure,
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
