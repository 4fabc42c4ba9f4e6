//! `countersign policy replay`: what another policy would change, over facts as they were recorded, or over the
//! entries of a log.

use super::over_log::{self, Decided};
use crate::args::Format;
use crate::args::policy::Replay as Args;
use crate::failure::Failure;
use crate::trust::{self, read_bounded};
use crate::{output, policy_file};
use countersign_policy::{Decision, Facts, decide};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Largest record that is read, bytes: thousands of decisions.
const MAX_RECORD: usize = 256 << 20;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let all = match args.over {
        Some(over) => {
            let (root, _) = trust::load(&args.trust)?.root()?;
            over_log::decide(&root, over, &args.against, &args.new)?
        }
        None => recorded(args)?,
    };
    let decided = all.len();
    // By what changes, so that a thousand decisions with one reason are one line.
    let mut changes: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for Decided { before, after, what } in all.into_iter().filter(|one| one.before != one.after) {
        changes.entry((before, after)).or_default().push(what);
    }
    let changed: usize = changes.values().map(Vec::len).sum();
    let text = match args.output {
        Format::Json => {
            let change = |((before, after), artifacts): (&(String, String), &Vec<String>)| json!({ "before": before, "after": after, "artifacts": artifacts });
            let changes: Vec<Value> = changes.iter().map(change).collect();
            let report = json!({ "schema": "countersign.replay/1", "decided": decided,
                "changed": changed, "changes": changes });
            format!("{report}\n")
        }
        Format::Text => {
            let mut text = String::new();
            for ((before, after), artifacts) in &changes {
                let _ = writeln!(text, "{}: {before} -> {after}", artifacts.len());
                for artifact in artifacts.iter().take(5) {
                    let _ = writeln!(text, "    {artifact}");
                }
                if artifacts.len() > 5 {
                    let _ = writeln!(text, "    and {} more", artifacts.len() - 5);
                }
            }
            let _ = writeln!(text, "{decided} decided, {changed} changed");
            text
        }
    };
    output::print(&output::visible(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Decides about facts as they were recorded.
fn recorded(args: &Args) -> Result<Vec<Decided>, Failure> {
    if args.facts.is_empty() {
        return Err(Failure::unclear("over what? There are neither --facts nor --over").hint(
            "--facts FILE, which --policy P --record-facts FILE wrote; or --over log:30d, the entries of an instance",
        ));
    }
    let (new, old) = (policy_file::read(&args.new)?, policy_file::read(&args.against)?);
    let mut all = Vec::new();
    for path in files(&args.facts)? {
        for facts in read(&path)? {
            let (before, after) = (shown(&decide(&facts, &old)), shown(&decide(&facts, &new)));
            let artifact = facts.artifact.as_ref();
            let what = artifact.map(|artifact| format!("{} {}", artifact.name, artifact.digest));
            let what = what.unwrap_or_else(|| "no artifact".to_owned());
            all.push(Decided { before, after, what });
        }
    }
    if all.is_empty() {
        return Err(Failure::unclear("there are no recorded facts to decide about").hint(
            "verify --policy FILE --record-facts FILE writes them, and so does verify-blob",
        ));
    }
    Ok(all)
}

/// The answer, and why where it is no.
fn shown(decision: &Decision) -> String {
    match decision.code() {
        None => "allowed".to_owned(),
        Some(code) => {
            format!("{} ({})", if decision.allows() { "allowed" } else { "refused" }, code)
        }
    }
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error| Failure::file("read", path, &error);
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Facts, one JSON object after another.
fn read(path: &Path) -> Result<Vec<Facts>, Failure> {
    let bytes = read_bounded(path, MAX_RECORD)?;
    let facts = serde_json::Deserializer::from_slice(&bytes).into_iter::<Facts>();
    facts.collect::<Result<_, _>>().map_err(|error| {
        Failure::unclear(format!("{}: not recorded facts: {error}", path.display()))
    })
}
