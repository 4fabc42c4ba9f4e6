//! `countersign policy replay`: what another policy would change, over facts as they were recorded.

use crate::args::Format;
use crate::args::policy::Replay as Args;
use crate::failure::Failure;
use crate::trust::read_bounded;
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
    let (new, old) = (policy_file::read(&args.new)?, policy_file::read(&args.against)?);
    let mut decided = 0_usize;
    // By what changes, so that a thousand decisions with one reason are one line.
    let mut changes: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for path in files(&args.facts)? {
        for facts in read(&path)? {
            decided += 1;
            let (before, after) = (decide(&facts, &old), decide(&facts, &new));
            if shown(&before) != shown(&after) {
                let artifact = facts.artifact.as_ref();
                let name =
                    artifact.map(|artifact| format!("{} {}", artifact.name, artifact.digest));
                let name = name.unwrap_or_else(|| "no artifact".to_owned());
                changes.entry((shown(&before), shown(&after))).or_default().push(name);
            }
        }
    }
    if decided == 0 {
        return Err(Failure::unclear("there are no recorded facts to decide about").hint(
            "verify --policy FILE --record-facts FILE writes them, and so does verify-blob",
        ));
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
