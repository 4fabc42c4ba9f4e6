//! Which files the arguments name.

use crate::artifact::only_one_meaning;
use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// Most files of one command: beyond that a pattern or directory was hardly meant.
const MAX_FILES: usize = 1_000_000;

/// Names of bundles, which are not verified themselves when a directory or pattern has them.
const BUNDLES: [&str; 3] = [".sigstore.json", ".sigstore", ".sigstore.jsonl"];

/// Files as they stand; directories with all that is below them but bundles; and what patterns match
/// where no file has such a name, for shells that leave them alone, directories among it. Sorted within each argument.
pub(super) fn expand(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for argument in arguments {
        only_one_meaning(argument)?;
        let text = argument.to_string_lossy();
        if argument.is_dir() {
            let before = files.len();
            walk(argument, &mut files)?;
            if files.len() == before {
                let message = format!("{} has no files in it", argument.display());
                return Err(Failure::unclear(message));
            }
        } else if text.contains(['*', '?', '[']) && !argument.exists() {
            files.extend(matching(&text)?);
        } else {
            files.push(argument.clone());
        }
    }
    Ok(files)
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let unclear = |reason: String| Failure::unclear(format!("pattern {pattern}: {reason}"));
    let found = glob::glob(pattern).map_err(|error| unclear(error.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| unclear(error.to_string()))?;
    let mut files = Vec::new();
    for path in found {
        match path.is_dir() {
            true => walk(&path, &mut files)?,
            false if is_bundle(&path) => {}
            false => files.push(path),
        }
    }
    if files.is_empty() { Err(unclear("no file matches".to_owned())) } else { Ok(files) }
}

/// Links to directories are not followed: they may lead in circles. They are verified as files, which cannot be
/// done, and is told.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::file("read", folder, &error);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() {
            walk(&path, files)?;
        } else if !is_bundle(&path) {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            let message = format!("{} has more than {MAX_FILES} files", folder.display());
            return Err(Failure::unclear(message));
        }
    }
    Ok(())
}

fn is_bundle(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    BUNDLES.iter().any(|suffix| name.ends_with(suffix))
}
