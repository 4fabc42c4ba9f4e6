//! `countersign log consistency`: that one tree of the log is the beginning of another.

use super::remote::{Remote, refused};
use crate::args::Format;
use crate::args::log::Consistency as Args;
use crate::failure::{Failure, NO};
use crate::output;
use crate::runtime::block_on;
use crate::trust::read_bounded;
use countersign_log::read::Reader;
use countersign_log::{LogKey, proof};
use countersign_verify::limits::MAX_CHECKPOINT;
use countersign_verify::merkle::{ConsistencyProof, Hash};
use serde_json::json;
use std::process::ExitCode;

/// A tree by its size; its root is as a checkpoint has it, or as the log's tiles have it now.
struct Tree {
    size: u64,
    root: Hash,
    signed: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let remote = Remote::named(&args.which)?;
    let key = remote.key();
    let reader = remote.read()?;
    let latest = reader.head().checkpoint();
    let from = tree(&args.from, &key, &reader)?;
    let to = match &args.to {
        Some(to) => tree(to, &key, &reader)?,
        None => Tree { size: latest.size, root: latest.root, signed: true },
    };
    if from.size == 0 || from.size > to.size {
        let message = format!("expected 1 <= --from <= --to, found {} and {}", from.size, to.size);
        return Err(Failure::unclear(message).hint(
            "a checkpoint is of the size in its second line; of an empty tree nothing follows",
        ));
    }
    let proof = block_on(prove(&reader, &from, &to))?;
    let (holds, reason) = match &proof {
        Ok(_) => (true, None),
        Err(proof::Error::Store(error)) => return Err(Failure::unclear(error.to_string())),
        Err(error) => (false, Some(error.to_string())),
    };
    let side = |tree: &Tree| json!({ "size": tree.size, "root": tree.root.to_string(), "signed": tree.signed });
    let hashes = proof.iter().flat_map(|proof| proof.path()).map(ToString::to_string);
    let hashes: Vec<_> = hashes.collect();
    let (of, in_) = (
        format!("{} entries (root {})", from.size, from.root),
        format!("{} (root {})", to.size, to.root),
    );
    output::print(&match args.output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.consistency/1", "log": latest.origin,
                "consistent": holds, "from": side(&from), "to": side(&to), "hashes": hashes,
                "reason": reason })
        ),
        Format::Text if holds => {
            let hashes: String = hashes.iter().map(|hash| format!("  {hash}\n")).collect();
            format!("consistent: the tree of {of} is the beginning of that of {in_}\n{hashes}")
        }
        Format::Text => {
            format!("INCONSISTENT: the tree of {of} is not the beginning of that of {in_}\n")
        }
    })?;
    match reason {
        None => Ok(ExitCode::SUCCESS),
        Some(reason) => {
            let failure = Failure::no(reason)
                .hint("keep both checkpoints: if the log signed them, they prove that it forked");
            let _ = failure.exit(); // prints; the status is the same
            Ok(ExitCode::from(NO))
        }
    }
}

/// Both are checked against the latest checkpoint too: there is one tree that all of them begin.
async fn prove(reader: &Reader, from: &Tree, to: &Tree) -> Result<ConsistencyProof, proof::Error> {
    let latest = reader.head().checkpoint().size;
    if to.size > latest {
        // The log signed more than it has now.
        return reader.prove_consistency(to.size, &to.root).await;
    }
    reader.prove_consistency(to.size, &to.root).await?;
    reader.prove_prefix((from.size, &from.root), (to.size, &to.root)).await
}

/// A size, else a file with a checkpoint that the log signed.
fn tree(text: &str, key: &LogKey, reader: &Reader) -> Result<Tree, Failure> {
    let latest = reader.head().checkpoint().size;
    if let Ok(size) = text.parse::<u64>() {
        if size == 0 || size > latest {
            return Err(Failure::no(format!("the log has {latest} entries, no tree of {size}"))
                .hint("sizes count entries, from 1"));
        }
        let root = block_on(reader.root(size))?.map_err(refused)?;
        return Ok(Tree { size, root, signed: false });
    }
    let note = read_bounded(text.as_ref(), MAX_CHECKPOINT)?;
    let note =
        String::from_utf8(note).map_err(|_| Failure::no(format!("{text} is no checkpoint")))?;
    let checkpoint = key.open(&note).map_err(|error| Failure::no(format!("{text}: {error}")))?;
    Ok(Tree { size: checkpoint.size, root: checkpoint.root, signed: true })
}
