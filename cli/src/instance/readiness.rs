//! Whether an instance can do its work: every signer signs, every log takes entries, the disk can be written.

use super::{Instance, Services, keys};
use countersign_ca::profile::LIFETIME;
use jiff::{SignedDuration, Timestamp};
use std::io::Write as _;

/// Free space below which the instance is not ready: what a busy log writes in some minutes.
const RESERVE: u128 = 64 << 20;

impl Instance {
    /// Why it cannot do its work; nothing when it can. It signs and writes to find out, so whoever serves
    /// it to everybody asks it now and then.
    pub(crate) fn unready(&self) -> Vec<String> {
        let now = Timestamp::now();
        let services = self.services();
        let mut reasons = Vec::new();
        for (what, credentials) in
            [("the issuing CA", &services.issuing), ("the timestamp authority", &services.stamping)]
        {
            let begun = credentials.iter().filter(|credential| credential.from <= now);
            if let Some(current) = begun.max_by_key(|credential| credential.from)
                && let Err(error) = current.signer.ready()
            {
                reasons.push(format!("{what} cannot sign: {error}"));
            }
        }
        reasons.extend(services.invalid(now));
        for log in self.logs.active() {
            if let Some(error) = log.failing() {
                let origin = log.key().origin();
                reasons.push(format!("log {origin:?} could not write its last batch: {error}"));
            }
            if log.is_halted() {
                let origin = log.key().origin();
                reasons.push(format!("log {origin:?} is halted; this program's log has the cause"));
            }
            if log.is_held() {
                let origin = log.key().origin();
                reasons.push(format!(
                    "log {origin:?} waits for its witnesses; this program's log says for which"
                ));
            }
        }
        reasons.extend(self.storage().err());
        reasons
    }

    fn storage(&self) -> Result<(), String> {
        let folder = self.directory.path();
        let failed = |error: &dyn std::fmt::Display| {
            format!("the directory of the instance cannot be written: {error}")
        };
        let mut probe = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        probe.write_all(&[0; 4096]).map_err(|error| failed(&error))?;
        let disk = nix::sys::statvfs::statvfs(folder).map_err(|error| failed(&error))?;
        let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
        if free < RESERVE {
            return Err(format!(
                "the disk has {} MiB left, expected {}",
                free >> 20,
                RESERVE >> 20
            ));
        }
        Ok(())
    }
}

impl Services {
    /// Which authorities' certificates are not valid yet, or do not last as long as what they are to sign now.
    fn invalid(&self, now: Timestamp) -> Vec<String> {
        let mut invalid = Vec::new();
        for (role, all, needed) in [
            ("issuing", &self.issuing, LIFETIME),
            ("timestamps", &self.stamping, SignedDuration::ZERO),
        ] {
            let all = keys::lifetimes(role, all, now);
            let Some(current) = all.into_iter().find(|each| each.in_use) else { continue };
            invalid.extend(current.early(now));
            if current.until < now + needed {
                invalid.push(format!(
                    "the certificate for {role} ends at {}, too soon to sign anything; next: countersign ca rotate {role}",
                    current.until
                ));
            }
        }
        invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Directory, development};

    #[tokio::test]
    async fn an_authority_whose_certificate_is_not_valid_for_what_it_signs_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let url = "http://127.0.0.1:1".parse().unwrap();
        let instance = development::open(directory, &url, Vec::new(), None, None).await.unwrap();
        let services = instance.services();
        let second = SignedDuration::from_secs(1);
        let keys::Lifetime { valid_from, until: end, .. } =
            services.lifetimes(Timestamp::now())[0].clone();
        let roles = |now| {
            let name = |text: String| text.split(' ').nth(3).unwrap().to_owned();
            services.invalid(now).into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(roles(valid_from - second), ["issuing", "timestamps"]);
        assert_eq!(roles(valid_from), [""; 0]);
        assert_eq!(roles(end - LIFETIME), [""; 0]);
        assert_eq!(roles(end - LIFETIME + second), ["issuing"]);
        assert_eq!(
            roles(end + second),
            ["issuing", "timestamps"],
            "made at once, they end at once"
        );
        instance.close().await;
    }
}
