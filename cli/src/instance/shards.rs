//! Which shards the logs of an instance have: `shards.json`.
//!
//! Shard 1 of the log `log` lies in the folder `log`, with its key in `keys/log.pem`; shard 2 in `log-2`,
//! with `keys/log-2.pem`. Where a shard is read stays: shard 1 below the instance's URL, the others below
//! `/shards/<number>`. Of the shards of a log one takes entries; those before it have ended, one after it
//! may be announced.

use super::{Directory, Settings, known};
use crate::failure::Failure;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use url::Url;

/// The shards of each log, in order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Shards {
    log: Vec<Shard>,
    log_v1: Vec<Shard>,
    ct: Vec<Shard>,
    /// None in an instance of before it had an audit log: its first start makes it.
    #[serde(default)]
    audit: Vec<Shard>,
}

/// A log of an instance, by the name of its folder.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogName {
    /// The signature log, Rekor v2
    Log,
    /// The signature log for older clients, Rekor v1
    LogV1,
    /// The certificate log
    #[value(skip)]
    Ct,
    /// The record of issuances, refusals and administrative acts
    #[value(skip)]
    Audit,
}

impl LogName {
    pub(crate) const ALL: [Self; 4] = [Self::Log, Self::LogV1, Self::Ct, Self::Audit];

    const fn folder(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::LogV1 => "log-v1",
            Self::Ct => "ct",
            Self::Audit => "audit",
        }
    }

    /// Whether its keys are Ed25519, else on P-256.
    pub(super) const fn ed25519(self) -> bool {
        matches!(self, Self::Log | Self::Audit)
    }
}

/// One shard's life.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    /// Its host, and so its origin, if that is not the instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// Since when clients can know it.
    pub(crate) announced: Timestamp,
    /// Since when it takes entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begun: Option<Timestamp>,
    /// Since when it takes none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Timestamp>,
    /// Since when its last checkpoint says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) frozen: Option<Timestamp>,
}

/// How long before a shard is announced its key is trusted: a bundle that was signed with `--defer` may come
/// to be in a shard that was not there when it was signed.
const BEFORE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long before an instance was made its keys are trusted, for clocks that differ.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

impl Shards {
    pub(super) const FILE: &str = "shards.json";

    /// Those of a new instance: one of each log that clients know.
    pub(super) fn first(created: Timestamp) -> Self {
        let one = || vec![Shard::announced(created, None)];
        let mut all = Self { log: one(), log_v1: one(), ct: one(), audit: vec![] };
        for name in LogName::ALL {
            all.of_mut(name).iter_mut().for_each(|shard| shard.begun = Some(created));
        }
        all
    }

    /// Those in `directory`; `None` when there is no such file.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, Failure> {
        let path = directory.join(Self::FILE);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
                Failure::unclear(format!("{}: {error}", path.display())).hint(known::PUT_BACK)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Those of the instance in `directory`, which may be running.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self, Failure> {
        if Settings::read(directory)?.is_none() {
            return Err(Failure::unclear(format!(
                "there is no instance in {}",
                directory.display()
            )));
        }
        Self::read(directory)?.ok_or_else(|| {
            let path = directory.join(Self::FILE);
            Failure::unclear(format!("{} is missing", path.display())).hint(known::PUT_BACK)
        })
    }

    pub(super) fn write(&self, directory: &Directory) -> Result<(), Failure> {
        directory.write(Self::FILE, &self.to_json())
        // Restart finds these shards.
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("texts only")
    }

    /// Has every log go on in a new shard when the instance next starts.
    pub(crate) fn end(&mut self, now: Timestamp) {
        for name in LogName::ALL {
            // What was announced has taken nothing, but its key has signed: it ends as well.
            for shard in self.of_mut(name) {
                shard.ended.get_or_insert(now);
            }
        }
    }

    pub(crate) fn of(&self, name: LogName) -> &[Shard] {
        match name {
            LogName::Log => &self.log,
            LogName::LogV1 => &self.log_v1,
            LogName::Ct => &self.ct,
            LogName::Audit => &self.audit,
        }
    }

    fn of_mut(&mut self, name: LogName) -> &mut Vec<Shard> {
        match name {
            LogName::Log => &mut self.log,
            LogName::LogV1 => &mut self.log_v1,
            LogName::Ct => &mut self.ct,
            LogName::Audit => &mut self.audit,
        }
    }

    /// The number of the shard that takes entries; `None` when all have ended.
    pub(crate) fn active(&self, name: LogName) -> Option<usize> {
        let active = |shard: &Shard| shard.begun.is_some() && shard.ended.is_none();
        self.of(name).iter().position(active).map(|place| place + 1)
    }

    /// The number of the shard that a log of the instance in `directory` goes on in next.
    pub(crate) fn next(directory: &Path, name: LogName) -> Result<usize, Failure> {
        Ok(Self::of_directory(directory)?.active(name).map_or(1, |active| active + 1))
    }

    /// The number of the shard that is announced and has not begun.
    pub(crate) fn announced(&self, name: LogName) -> Option<usize> {
        let announced = |shard: &Shard| shard.begun.is_none() && shard.ended.is_none();
        self.of(name).iter().position(announced).map(|place| place + 1)
    }

    pub(crate) fn announce(&mut self, name: LogName, host: Option<String>, now: Timestamp) {
        self.of_mut(name).push(Shard::announced(now, host));
    }

    /// The shard that takes entries ends, and the one that is announced begins.
    pub(crate) fn turn(&mut self, name: LogName, now: Timestamp) {
        let (active, announced) = (self.active(name), self.announced(name));
        let shards = self.of_mut(name);
        if let Some(number) = active {
            shards[number - 1].ended = Some(now);
        }
        if let Some(number) = announced {
            shards[number - 1].begun = Some(now);
        }
    }

    pub(crate) fn freeze(&mut self, name: LogName, number: usize, now: Timestamp) {
        self.of_mut(name)[number - 1].frozen.get_or_insert(now);
    }

    /// From when to when the key of a shard is trusted. A later shard's window begins later: clients take
    /// the newest.
    pub(crate) fn window(&self, name: LogName, number: usize) -> (Timestamp, Option<Timestamp>) {
        let shards = &self.of(name)[..number];
        let mut start = shards[0].announced - SLACK;
        for shard in &shards[1..] {
            start = (shard.announced - BEFORE).max(start + SignedDuration::from_secs(1));
        }
        (start, shards[number - 1].frozen)
    }
}

impl Shard {
    const fn announced(announced: Timestamp, host: Option<String>) -> Self {
        Self { host, announced, begun: None, ended: None, frozen: None }
    }
}

/// The folder of a shard, its lock's name, and the name of its key below `keys/`.
pub(crate) fn folder(name: LogName, number: usize) -> String {
    match number {
        1 => name.folder().to_owned(),
        _ => format!("{}-{number}", name.folder()),
    }
}

/// Where shard `number` is read, without a slash at the end.
pub(crate) fn base_url(instance: &Url, host: Option<&str>, number: usize) -> Result<Url, Failure> {
    let mut url = instance.clone();
    if let Some(host) = host {
        url.set_host(Some(host)).map_err(|_| Failure::unclear(format!("{host:?} is no host")))?;
    }
    if number > 1 {
        let path = format!("{}/shards/{number}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// The same for a shard with a host of its own, which is its name for good: as URLs have it, and no more.
pub(crate) fn named_url(instance: &Url, host: &str, number: usize) -> Result<Url, Failure> {
    let url = base_url(instance, Some(host), number).ok();
    url.filter(|url| url.host_str() == Some(host)).ok_or_else(|| {
        Failure::no(format!("{host:?} is no host name"))
            .hint("give the name alone, in lower case; nothing was made")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_lives_from_announcement_to_freezing_and_windows_begin_one_after_the_other() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut shards = Shards::first(at("2026-01-01T00:00:00Z"));
        let name = LogName::Log;
        assert_eq!((shards.active(name), shards.announced(name)), (Some(1), None));
        shards.announce(name, None, at("2026-01-02T00:00:00Z"));
        assert_eq!((shards.active(name), shards.announced(name)), (Some(1), Some(2)));
        shards.turn(name, at("2026-01-03T00:00:00Z"));
        assert_eq!((shards.active(name), shards.announced(name)), (Some(2), None));
        assert_eq!(shards.active(LogName::LogV1), Some(1));
        shards.announce(name, None, at("2026-06-01T00:00:00Z"));
        shards.freeze(name, 1, at("2026-07-01T00:00:00Z"));
        let windows: Vec<_> = (1..=3).map(|number| shards.window(name, number)).collect();
        // The second is announced within a week of the first, so its window cannot begin a week before.
        assert_eq!(
            windows,
            [
                (at("2025-12-31T23:00:00Z"), Some(at("2026-07-01T00:00:00Z"))),
                (at("2025-12-31T23:00:01Z"), None),
                (at("2026-05-25T00:00:00Z"), None),
            ]
        );
        let json = shards.to_json();
        assert_eq!(serde_json::from_slice::<Shards>(&json).unwrap(), shards);
        // An instance of before it had an audit log begins one.
        let json = String::from_utf8(json).unwrap().replace("\"audit\": []", "");
        let older = json.trim_end().trim_end_matches(['}', ',', ' ', '\n']).to_owned() + "}";
        let older: Shards = serde_json::from_str(&older).unwrap();
        assert_eq!((older.active(LogName::Audit), older.active(name)), (None, Some(2)));
        shards.end(at("2026-08-01T00:00:00Z"));
        for name in LogName::ALL {
            assert_eq!((shards.active(name), shards.announced(name)), (None, None), "{name:?}");
        }
    }

    #[test]
    fn a_shards_place_follows_from_its_number() {
        for (number, host, url) in [
            (1, None, "https://sign.example.test/"),
            (2, None, "https://sign.example.test/shards/2"),
            (3, Some("log3.example.test"), "https://log3.example.test/shards/3"),
        ] {
            let instance = "https://sign.example.test".parse().unwrap();
            assert_eq!(base_url(&instance, host, number).unwrap().as_str(), url);
        }
        assert_eq!(
            (&*folder(LogName::LogV1, 1), &*folder(LogName::LogV1, 2)),
            ("log-v1", "log-v1-2")
        );
    }
}
