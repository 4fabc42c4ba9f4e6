//! How an operator gives orders to a running instance: a socket in its directory.
//!
//! `control/orders` below the directory of the instance, in a folder that its owner alone may enter: whoever
//! runs the instance gives it orders, and nobody else; nothing of this is on the network. One order a
//! connection: a line of JSON, answered by a line of JSON.

use crate::failure::Failure;
use crate::instance::LogName;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// Longest order, in bytes.
const MAX_ORDER: u64 = 4096;

/// What an instance is told to do.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Order {
    /// To make the next shard of a log and have clients know it.
    Announce { log: LogName, host: Option<String> },
    /// To go on in the next shard, which is announced if it was not. It is named, so that the same order given twice
    /// begins one.
    Rotate { log: LogName, host: Option<String>, shard: usize },
    /// To sign the end of a shard.
    Freeze { log: LogName, shard: usize },
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Done {
    /// The shard that was announced, has begun, or was frozen.
    pub(crate) shard: usize,
    /// Where it is read.
    pub(crate) url: String,
    /// Its entries.
    pub(crate) entries: u64,
    /// Its key ID, base64.
    pub(crate) log_id: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Done(Done),
    Failed(String),
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("control/orders")
}

/// Takes orders for the instance in `directory`, which this process holds, until the task is aborted.
pub(crate) fn listen<F>(
    directory: &Path,
    carry_out: impl Fn(Order) -> F + Send + Sync + 'static,
) -> Result<JoinHandle<()>, Failure>
where
    F: Future<Output = Result<Done, Failure>> + Send,
{
    let path = socket(directory);
    let failed = |error: std::io::Error| Failure::file("listen at", &path, &error);
    let folder = directory.join("control");
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(failed)?,
    }
    // What a killed process left; the directory's lock says that none lives.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|error| {
        failed(error).hint("the path of a socket has at most 107 bytes: use a shorter --dir")
    })?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // One after the other: orders change the same things.
                Ok((stream, _)) => answer(stream, &carry_out).await,
                Err(error) => {
                    tracing::warn!(%error, "an order did not arrive");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }))
}

async fn answer<F>(stream: tokio::net::UnixStream, carry_out: &impl Fn(Order) -> F)
where
    F: Future<Output = Result<Done, Failure>>,
{
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(MAX_ORDER));
    // Whoever connects and says nothing keeps no other out for long.
    let read = tokio::time::timeout(Duration::from_secs(5), read.read_line(&mut line)).await;
    let reply = match read.map(|_| serde_json::from_str::<Order>(&line)) {
        Ok(Ok(order)) => {
            tracing::info!(?order, "an order");
            match AssertUnwindSafe(carry_out(order)).catch_unwind().await {
                Ok(Ok(done)) => Reply::Done(done),
                Ok(Err(failure)) => Reply::Failed(failure.text()),
                // A defect; orders are taken all the same.
                Err(_) => Reply::Failed(
                    "the order broke off; the instance's own log has the cause: restart it"
                        .to_owned(),
                ),
            }
        }
        Ok(Err(error)) => Reply::Failed(format!("this is no order: {error}")),
        Err(_) => return,
    };
    if let Reply::Failed(reason) = &reply {
        tracing::warn!(reason, "an order was not carried out");
    }
    let reply = format!("{}\n", serde_json::to_string(&reply).expect("texts and numbers"));
    let _ = write.write_all(reply.as_bytes()).await; // whoever asked may be gone
}

/// Gives an order to the instance that runs in `directory`, and waits for it to be carried out, as long as that takes:
/// a log that is closed finishes what it has taken, and witnesses may be slow.
pub(crate) fn give(directory: &Path, order: &Order) -> Result<Done, Failure> {
    let path = socket(directory);
    let failed = |error: std::io::Error| Failure::file("give an order at", &path, &error);
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Failure::unclear(format!("no instance runs in {}", directory.display())).hint(
                "start it with countersign serve or countersign dev; it takes orders while it runs",
            )
        }
        _ => failed(error),
    })?;
    let order = format!("{}\n", serde_json::to_string(order).expect("texts and numbers"));
    stream.write_all(order.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Reply::Done(done)) => Ok(done),
        Ok(Reply::Failed(reason)) => Err(Failure::no(reason)),
        Err(_) => Err(Failure::unclear("the instance did not say what became of the order")
            .hint("its own log has the cause; the same order again does no harm, but for log rotate: if shards.json says that the shard has begun, it would begin one more")),
    }
}
