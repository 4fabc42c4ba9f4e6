//! `countersign log export`: entries, and all that proves them, in one file.

use super::remote::{Remote, refused};
use crate::args::log::Export as Args;
use crate::failure::Failure;
use crate::output::{self, NewFile};
use crate::runtime::block_on;
use countersign_log::evidence::Writer;
use countersign_verify::tile::FULL;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let remote = Remote::named(&args.which)?;
    let key = remote.key();
    let reader = remote.read()?;
    let size = reader.head().checkpoint().size;
    let span = args.from..args.to.unwrap_or(size);
    if span.is_empty() || span.end > size {
        let message = format!("expected --from < --to <= {size}, the log's size");
        return Err(Failure::unclear(message).hint("indices count from 0; --to is not included"));
    }
    let mut file = NewFile::for_evidence(&args.file)?;
    let (mut writer, line) = Writer::begin(&key, &span, reader.head().note());
    file.write(line.as_bytes())?;
    let full = u64::from(FULL);
    for bundle in span.start / full..span.end.div_ceil(full) {
        let entries = block_on(reader.prove_bundle(bundle))?.map_err(refused)?;
        for proven in entries.iter().filter(|proven| span.contains(&proven.proof.leaf_index())) {
            file.write(writer.entry(proven).as_bytes())?;
        }
    }
    file.finish(writer.end().as_bytes())?;
    output::print(&format!(
        "exported {} entries, from {} to before {}, each proven to be in the tree of {size}: {}\n",
        span.end - span.start,
        span.start,
        span.end,
        args.file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
