//! One log on its way into the index: from its published bundles, read and checked as an outsider would.
//!
//! Entries are hashed into the tree from where the index is; what they lead to must be the root of the
//! signed checkpoint before any search speaks of them.

use super::facts::Facts;
use super::postings::{LogNumber, POSTINGS, Posting, Postings, RUN, Run};
use super::{Error, Published};
use crate::read::{self, Reader};
use crate::record::Format;
use crate::recover::read_edge;
use crate::tree::Edge;
use bytes::Bytes;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::Hash;
use countersign_verify::tile::FULL;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Instant;

/// How fast to index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Beside a log at work: one core, and it rests as long as it worked.
    Behind,
    /// All cores.
    Full,
}

/// A log, and how far it is indexed.
pub(super) struct Follower {
    pub(super) log: Published,
    pub(super) number: LogNumber,
    postings: Postings,
    /// The tree that searches are complete up to; `None` before the first.
    reader: RwLock<Option<Arc<Reader>>>,
}

/// What a bundle adds: each entry's leaf hash, and its postings.
type Indexed = Vec<(Hash, Vec<Posting>)>;

impl Follower {
    pub(super) async fn new(log: Published, postings: Postings) -> Result<Self, Error> {
        let number = postings.log(log.key.log_id()).await?;
        let reader = match postings.checkpoint(number).await? {
            None => None,
            Some(note) => {
                let source = Arc::clone(&log.source);
                match Reader::at(source, &log.key, log.format, note).await {
                    Ok(reader) => Some(Arc::new(reader)),
                    Err(error) if error.is_transient() => return Err(error.into()),
                    Err(error) => {
                        let log = log.key.origin();
                        tracing::warn!(log, %error, "the index is of another tree, and made anew");
                        postings.rewind(number, 0).await?;
                        None
                    }
                }
            }
        };
        Ok(Self { log, number, postings, reader: RwLock::new(reader) })
    }

    /// The tree that searches are complete up to.
    pub(super) fn reader(&self) -> Option<Arc<Reader>> {
        self.reader.read().clone()
    }

    /// Indexes what was published since; how many entries that were.
    pub(super) async fn advance(&self, pace: Pace) -> Result<u64, Error> {
        let before = self.reader();
        let Published { source, key, format } = &self.log;
        let note = read::note(&**source).await?;
        if before.as_ref().is_some_and(|before| before.head().note() == note) {
            return Ok(0);
        }
        let reader = Arc::new(Reader::at(Arc::clone(source), key, *format, note).await?);
        let checkpoint = reader.head().checkpoint();
        let signed = before.as_ref().map_or(0, |before| before.head().checkpoint().size);
        let mut edge = self.edge(&reader, before.as_deref()).await?;
        if edge.size() > checkpoint.size {
            return Err(Error::Shrunk { indexed: edge.size(), published: checkpoint.size });
        }
        let first = edge.size();
        let mut run = Run { entries: first..first, root: edge.root(), postings: Vec::new() };
        let bundles = first / u64::from(FULL)..checkpoint.size.div_ceil(u64::from(FULL));
        let at_once = match pace {
            Pace::Behind => 1,
            Pace::Full => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let read = |bundle| {
            let (reader, format) = (Arc::clone(&reader), *format);
            async move {
                let started = Instant::now();
                let indexed = read_bundle(&reader, format, bundle, first).await?;
                if pace == Pace::Behind {
                    tokio::time::sleep(started.elapsed()).await;
                }
                Ok::<_, Error>(indexed)
            }
        };
        let mut indexed = stream::iter(bundles).map(read).buffered(at_once);
        let mut filled = Vec::new();
        while let Some(entries) = indexed.try_next().await? {
            for (leaf, mut postings) in entries {
                edge.push(leaf, &mut filled);
                run.postings.append(&mut postings);
                run.entries.end += 1;
            }
            filled.clear(); // they are published
            if run.entries.end - run.entries.start >= RUN as u64 || run.postings.len() >= POSTINGS {
                let (end, root) = (run.entries.end, edge.root());
                let next = Run { entries: end..end, root, postings: Vec::new() };
                let full = Run { root, ..std::mem::replace(&mut run, next) };
                self.add(full, None).await?;
            }
        }
        let (expected, found) = (checkpoint.root, edge.root());
        if (edge.size(), found) != (checkpoint.size, expected) {
            self.postings.rewind(self.number, signed).await?;
            return Err(Error::Root { expected, found });
        }
        run.root = found;
        self.add(run, Some(reader.head().note())).await?;
        *self.reader.write() = Some(Arc::clone(&reader));
        Ok(checkpoint.size - first)
    }

    /// The right edge of the tree that ends with the last indexed entry.
    async fn edge(&self, reader: &Reader, before: Option<&Reader>) -> Result<Edge, Error> {
        let Some((size, root)) = self.postings.position(self.number).await? else {
            return Ok(Edge::default());
        };
        let known = before.map(|before| &before.head().edge);
        if let Some(edge) = known.filter(|edge| (edge.size(), edge.root()) == (size, root)) {
            return Ok(edge.clone());
        }
        let published = reader.head().checkpoint();
        if size > published.size {
            return Err(Error::Shrunk { indexed: size, published: published.size });
        }
        let origin = published.origin.clone();
        let checkpoint = Checkpoint { origin, size, root, extensions: vec![] };
        Ok(read_edge(&**reader.source(), &checkpoint).await?)
    }

    async fn add(&self, run: Run, checkpoint: Option<&str>) -> Result<(), Error> {
        let end = run.entries.end;
        match self.postings.add(self.number, run, checkpoint).await? {
            true => Ok(()),
            false => Err(Error::Elsewhere { entries: end }),
        }
    }
}

/// Reads the entries of a bundle from index `first` on.
async fn read_bundle(
    reader: &Reader,
    format: Format,
    bundle: u64,
    first: u64,
) -> Result<Indexed, Error> {
    let bytes = reader.bundle(bundle).await?;
    let indexed = move || index_bundle(format, bundle, &bytes, first);
    let indexed = tokio::task::spawn_blocking(indexed).await;
    indexed.map_err(|_| Error::Bundle { bundle })?
}

fn index_bundle(format: Format, bundle: u64, bytes: &Bytes, first: u64) -> Result<Indexed, Error> {
    let records = format.records(bytes).map_err(|_| Error::Bundle { bundle })?;
    let numbered = (bundle * u64::from(FULL)..).zip(&records).filter(|(leaf, _)| *leaf >= first);
    let indexed = numbered.map(|(leaf, record)| {
        let facts = Facts::read(&record.leaf(), record.time);
        let posting = |key| Posting { key, leaf, time: facts.time };
        (record.leaf_hash(), facts.keys().into_iter().map(posting).collect())
    });
    Ok(indexed.collect())
}
