//! Threads of a log's own, each with a runtime.
//!
//! The sequencer has one, so that it reads and writes files and its database where it is: handed to another thread,
//! each of these is two switches of threads, which cost a small batch more than the work does.
//!
//! [`Background`] is one for work that nobody waits for: whatever else is ready to run goes before it. On Linux
//! each thread has a niceness of its own, and those that it starts have the same, those for blocking work. Elsewhere
//! it is a thread like others.

use std::io;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Starts a thread of that name, which ends when `work` does; what is spawned at the handle then ends, too. The
/// receiver tells of the end, with an error if that was a panic.
///
/// # Errors
/// When the system has none to give.
pub(crate) fn start(
    name: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<(Handle, oneshot::Receiver<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (handle, (ended, end)) = (runtime.handle().clone(), oneshot::channel());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(work);
        let _ = ended.send(()); // nobody may care
    })?;
    Ok((handle, end))
}

/// A tenth of the weight that other threads have, which is what is left to it when these never rest.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Such a thread; it ends when this is dropped, and so does what runs there.
pub(crate) struct Background {
    handle: Handle,
    _until: oneshot::Sender<()>,
}

impl Background {
    /// Starts a thread of that name.
    ///
    /// # Errors
    /// When the system has none to give.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (until, dropped) = oneshot::channel::<()>();
        let (handle, _) = start(name, async {
            #[cfg(target_os = "linux")]
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "background work has the priority of all other");
            }
            let _ = dropped.await; // that it was dropped is an error
        })?;
        Ok(Self { handle, _until: until })
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[tokio::test]
    async fn what_runs_there_is_nicer_with_all_that_it_starts_and_ends_with_it() {
        let before = niceness();
        let background = Background::start("nicer").unwrap();
        let found = background.spawn(async {
            let blocking = tokio::task::spawn_blocking(niceness).await.unwrap();
            let thread = std::thread::spawn(niceness).join().unwrap();
            (niceness(), blocking, thread)
        });
        assert_eq!(found.await.unwrap(), (NICENESS, NICENESS, NICENESS));
        assert_eq!(niceness(), before);
        let endless = background.spawn(std::future::pending::<()>());
        drop(background);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
