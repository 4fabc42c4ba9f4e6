//! Whether an instance can do its work: every signer signs, every log takes entries, the disk can be written.

use super::Instance;
use jiff::Timestamp;
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
        for log in self.logs.active() {
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
