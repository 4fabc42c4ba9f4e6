//! The registries that are asked: with one client for each, and at most so many lookups at a time, so that
//! one which hangs holds up nobody else's images.

use countersign_client::oci::{Error, Options, Reference, Registries, Repository};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lookups at one registry at a time; each makes a few requests.
const AT_ONCE: usize = 32;

/// Lookups at one registry that wait for their turn, or have it.
pub(super) const WAITING: usize = 4 * AT_ONCE;

/// Registries that are remembered. Who may make pods may name as many hosts as there are; then all are
/// forgotten and begun anew, which costs those that are used a connection.
const MAX_HOSTS: usize = 256;

pub(super) struct Hosts {
    options: Options,
    known: Mutex<Known>,
}

struct Known {
    registries: Arc<Registries>,
    turns: HashMap<String, Arc<Semaphore>>,
}

impl Known {
    fn new(options: &Options) -> Self {
        Self { registries: Arc::new(Registries::new(options.clone())), turns: HashMap::new() }
    }
}

impl Hosts {
    pub(super) fn new(options: Options) -> Self {
        Self { known: Mutex::new(Known::new(&options)), options }
    }

    /// The repository of an image, and the turns of its registry.
    pub(super) fn repository(&self, image: &Reference) -> Result<(Repository, Turns), Error> {
        let mut known = self.known.lock();
        if known.turns.len() >= MAX_HOSTS && !known.turns.contains_key(image.registry()) {
            *known = Known::new(&self.options);
        }
        let turns = known.turns.entry(image.registry().to_owned());
        let turns = Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))));
        Ok((known.registries.repository(image)?, Turns(turns)))
    }
}

/// The lookups of one registry take turns.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// Waits for a turn, which lasts as long as what is returned; `None` when too many do so already.
    pub(super) async fn take(self) -> Option<OwnedSemaphorePermit> {
        // Whoever waits or has a turn holds a clone, and one is kept.
        if Arc::strong_count(&self.0) > WAITING + 1 {
            return None;
        }
        Some(self.0.acquire_owned().await.expect("it is never closed"))
    }
}
