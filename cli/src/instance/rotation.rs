//! How the logs of a running instance go on in new shards.
//!
//! ```text
//! announce   key, storage and first entry; shards.json; then the trusted root has the key
//! rotate     shards.json; then the shard before is closed and the next takes entries; then the signing
//!            config names it
//! freeze     the last checkpoint says that none follows; shards.json; then the trusted root has the end
//! ```
//! Each can be repeated after a crash at any step, and after a failure: what is listed is what runs. A `rotate` names
//! the shard that it begins, so the same again, queued behind the first, begins no other.

use super::Instance;
use super::logs::Opening;
use super::shards::{LogName, Shards, base_url, folder, named_url};
use crate::control::{Done, Order};
use crate::failure::Failure;
use countersign_log::Log;
use countersign_verify::encoding::base64;
use jiff::Timestamp;

impl Instance {
    /// Does as an operator says; one order after the other.
    pub(crate) async fn carry_out(&self, order: Order) -> Result<Done, Failure> {
        let (act, about) = match &order {
            Order::Announce { log, host } => ("announce", about(*log, host.as_deref())),
            Order::Rotate { log, host, .. } => ("rotate", about(*log, host.as_deref())),
            Order::Freeze { log, shard } => ("freeze", vec![folder(*log, *shard)]),
        };
        self.on_record(act, about, self.obey(order)).await
    }

    async fn obey(&self, order: Order) -> Result<Done, Failure> {
        let (log, number) = match order {
            Order::Announce { log, host } => (log, self.announce(log, host).await?),
            Order::Rotate { log, host, shard } => (log, self.rotate(log, host, shard).await?),
            Order::Freeze { log, shard } => (log, self.freeze(log, shard).await?),
        };
        let shards = self.shards.read().clone();
        let host = shards.of(log)[number - 1].host.as_deref();
        // All shards of a Rekor v1 log are at one place.
        let place = if log == LogName::LogV1 { 1 } else { number };
        let url = base_url(&self.settings.url, host, place)?;
        let log = self.running(log, number)?;
        Ok(Done {
            shard: number,
            url: url.as_str().trim_end_matches('/').to_owned(),
            entries: log.head().checkpoint().size,
            log_id: base64(log.key().log_id()),
        })
    }

    /// Has clients know the next shard, which is made if there is none.
    async fn announce(&self, log: LogName, host: Option<String>) -> Result<usize, Failure> {
        let announced = self.shards.read().announced(log);
        let number = match announced {
            Some(number) => {
                let known = self.shards.read().of(log)[number - 1].host.clone();
                if host.is_some() && host != known {
                    let known = known.unwrap_or_else(|| self.settings.log_origin.clone());
                    return Err(Failure::no(format!("shard {number} is announced at {known}"))
                        .hint("leave --host out"));
                }
                number
            }
            None => self.make(log, host).await?,
        };
        // An order that failed may have left these out.
        self.search(&self.running(log, number)?).await?;
        self.retrust()?;
        Ok(number)
    }

    /// Makes the next shard.
    async fn make(&self, log: LogName, host: Option<String>) -> Result<usize, Failure> {
        let mut shards = self.shards.read().clone();
        let number = shards.of(log).len() + 1;
        if let Some(host) = &host {
            self.resolves(host, number).await?;
        }
        shards.announce(log, host, Timestamp::now());
        let opening = Opening {
            directory: &self.directory,
            settings: &self.settings,
            database: &self.database,
            passphrase: self.passphrase.as_ref().map(|passphrase| &passphrase[..]),
            witnesses: self.witnesses.clone(),
            shards,
        };
        if opening.is_taken(log, number) {
            let message = "a new shard of a log with witnesses needs a host name that no shard before it has: they keep one tree a name";
            return Err(Failure::no(message)
                .hint("give --host NAME, another host name of this server; nothing was made"));
        }
        opening.clear(log, number).await?;
        opening.make_key(log, number)?;
        // Restart finds a key that no shard has, and this comes again: with it, or without if it is for another host.
        let earlier = self.logs.of(log);
        match log {
            LogName::Log => {
                let next = opening.signatures(number, earlier).await?;
                self.list(opening.shards)?;
                self.logs.signatures.shards().announce(next);
            }
            LogName::LogV1 => {
                let next = opening.older(number, earlier).await?;
                self.list(opening.shards)?;
                self.logs.older.shards().announce(next);
            }
            LogName::Ct | LogName::Audit => return Err(not_while_running()),
        }
        Ok(number)
    }

    /// Shard `number` as it runs.
    fn running(&self, log: LogName, number: usize) -> Result<Log, Failure> {
        let shard = self.logs.of(log).into_iter().nth(number - 1);
        shard.ok_or_else(|| {
            let message = format!("{} is listed and does not run", folder(log, number));
            Failure::unclear(message).hint("restart the server")
        })
    }

    /// A shard's host is its name for good: it must be one, and lead somewhere.
    async fn resolves(&self, host: &str, number: usize) -> Result<(), Failure> {
        let url = named_url(&self.settings.url, host, number)?;
        let port = url.port_or_known_default().unwrap_or_default();
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
        found.map(drop).map_err(|error| {
            let message = format!("{host} leads nowhere from here: {error}");
            Failure::no(message).hint("have that name lead to this server first: clients and witnesses know the shard by it, for good")
        })
    }

    /// Has the index follow a shard, unless it does.
    async fn search(&self, shard: &Log) -> Result<(), Failure> {
        if self.index.indexed().iter().any(|log| log.log_id == *shard.key().log_id()) {
            return Ok(());
        }
        let added = self.index.add(shard.published()).await;
        added.map_err(|error| Failure::unclear(format!("the search index: {error}")))
    }

    async fn rotate(
        &self,
        log: LogName,
        host: Option<String>,
        wanted: usize,
    ) -> Result<usize, Failure> {
        let begun = match log {
            LogName::Log => self.logs.signatures.shards().begun().len(),
            LogName::LogV1 => self.logs.older.shards().begun().len(),
            LogName::Ct | LogName::Audit => return Err(not_while_running()),
        };
        let listed = self.shards.read().active(log).unwrap_or_default();
        let number = if begun < listed {
            listed // what an order that failed has begun is finished first
        } else if wanted <= listed {
            self.retrust()?;
            return Ok(wanted); // the same order came through before
        } else if wanted > listed + 1 {
            let message = format!("shard {wanted} cannot begin: shard {listed} takes entries");
            return Err(Failure::no(message).hint("give the order again"));
        } else {
            let number = self.announce(log, host).await?;
            let mut shards = self.shards.read().clone();
            shards.turn(log, Timestamp::now());
            // First, so that a restart in between does not go back to a shard that has ended for some.
            self.list(shards)?;
            number
        };
        let turned = match log {
            LogName::LogV1 => self.logs.older.shards().turn().await,
            _ => self.logs.signatures.shards().turn().await,
        };
        let turned = turned.map_err(|error| {
            let message = format!("{} takes no entries yet: {error}", folder(log, number));
            Failure::unclear(message).hint("give the same order again, or restart the server")
        })?;
        if !turned {
            let message = format!("{} is listed and takes no entries", folder(log, number));
            return Err(Failure::unclear(message).hint("restart the server"));
        }
        self.retrust().map_err(|failure| {
            let message = format!("shard {number} takes entries, and clients are not told: {}", failure.text());
            Failure::unclear(message).hint(
                "restart or reload the server, which tells them; the same order again would begin one more shard",
            )
        })?;
        Ok(number)
    }

    async fn freeze(&self, log: LogName, number: usize) -> Result<usize, Failure> {
        let mut shards = self.shards.read().clone();
        let place = number.checked_sub(1).filter(|place| *place < shards.of(log).len());
        let place = place.ok_or_else(|| {
            let count = shards.of(log).len();
            Failure::no(format!("there is no shard {number}: expected one of 1 to {count}"))
        })?;
        if shards.of(log)[place].ended.is_none() {
            return Err(Failure::no(format!("shard {number} has not ended"))
                .hint("countersign log rotate ends the one that takes entries"));
        }
        let now = Timestamp::now();
        let frozen = self.running(log, number)?.freeze(now).await;
        frozen.map_err(|error| Failure::unclear(error.to_string()))?;
        // Restart finds the checkpoint that says so; the key stays trusted until this comes again.
        shards.freeze(log, number, now);
        self.list(shards)?;
        self.retrust()?;
        Ok(number)
    }

    fn list(&self, shards: Shards) -> Result<(), Failure> {
        shards.write(&self.directory)?;
        // Restart finds these shards.
        *self.shards.write() = shards;
        Ok(())
    }
}

/// What an order to go on in another shard is about.
fn about(log: LogName, host: Option<&str>) -> Vec<String> {
    std::iter::once(folder(log, 1)).chain(host.map(|host| format!("host {host}"))).collect()
}

fn not_while_running() -> Failure {
    Failure::no("certificate and audit log go on in a new shard only when a backup is restored")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Directory, development};

    #[tokio::test]
    async fn an_order_that_failed_at_the_index_leaves_what_is_listed_running_and_is_finished_later()
    {
        let folder = tempfile::tempdir().unwrap();
        let open = async || {
            let directory = Directory::open(folder.path()).unwrap();
            let url = "http://127.0.0.1:1".parse().unwrap();
            development::open(directory, &url, Vec::new(), None, None).await.unwrap()
        };
        let log = LogName::Log;
        let rotate = || Order::Rotate { log, host: None, shard: 2 };
        let instance = open().await;
        instance.index.close().await;
        for order in [Order::Announce { log, host: None }, rotate(), rotate()] {
            let failed = instance.carry_out(order).await.unwrap_err().text();
            assert!(failed.starts_with("the search index: "), "{failed}");
            let shards = instance.shards.read().clone();
            assert_eq!((shards.active(log), shards.announced(log)), (Some(1), Some(2)));
            assert_eq!(instance.logs.of(log).len(), 2);
        }
        instance.close().await;
        drop(instance);
        let instance = open().await;
        assert_eq!(instance.carry_out(rotate()).await.unwrap().shard, 2);
        assert_eq!(instance.index.indexed().len(), 3, "each is searched");
        // Whoever got no reply gives the same order again.
        assert_eq!(instance.carry_out(rotate()).await.unwrap().shard, 2);
        let fourth = Order::Rotate { log, host: None, shard: 4 };
        let refused = instance.carry_out(fourth).await.unwrap_err().text();
        assert!(refused.starts_with("shard 4 cannot begin"), "{refused}");
        assert_eq!(instance.logs.of(log).len(), 2);
        let third = Order::Rotate { log, host: None, shard: 3 };
        assert_eq!(instance.carry_out(third).await.unwrap().shard, 3);
        instance.close().await;
    }
}
