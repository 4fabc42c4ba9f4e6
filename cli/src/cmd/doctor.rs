//! `countersign doctor`: what is wrong with an instance, or soon will be, without its server.
//!
//! Exit status 0: nothing found; 1: findings, one a line; 2: it could not be found out.

use crate::args::serve::Doctor;
use crate::config::{Config, KeyPlace};
use crate::failure::{self, Failure};
use crate::instance::{keys, production};
use crate::output;
use countersign_verify::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Free space below which the disk is a finding: weeks of a busy log, so that there is time to act.
const SPACE: u128 = 1 << 30;

pub(crate) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let path = args.place.file();
    let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut findings = Vec::new();
    match Config::parse(&text, folder, Path::is_file) {
        Err(mistakes) => {
            findings.extend(mistakes.iter().map(|mistake| format!("configuration, {mistake}")));
        }
        Ok(config) => examine(&config, Timestamp::now(), &mut findings)?,
    }
    if findings.is_empty() {
        output::print(&format!("nothing found wrong with {}\n", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&findings.iter().map(|finding| format!("{finding}\n")).collect::<String>())?;
    Ok(ExitCode::from(failure::NO))
}

fn examine(config: &Config, now: Timestamp, findings: &mut Vec<String>) -> Result<(), Failure> {
    secrets(config, findings);
    if let Some(issuers) = &config.issuers
        && let Err(error) = production::issuers(issuers)
    {
        findings.push(error.text());
    }
    if config.issuers.is_none() {
        findings.push("configuration: without \"issuers\" nobody gets a certificate".to_owned());
    }
    if let Some(files) = &config.tls {
        match files.read() {
            Err(error) => findings.push(error.text()),
            Ok(_) => findings.extend(tls_end(&files.certificate, now)),
        }
    }
    disk(&config.directory, findings)?;
    clock(&config.directory, now, findings);
    let passphrase = production::passphrase(config)?;
    match production::plan(config, passphrase.as_ref().map(|text| &text[..])) {
        Err(error) => findings.push(error.text()),
        Ok(plan) => {
            findings.extend(plan.policy.as_ref().and_then(|policy| policy.warning()));
            for (role, all) in [("issuing", &plan.issuing), ("timestamps", &plan.timestamps)] {
                let lifetimes = keys::lifetimes(role, all, now);
                // What has handed over may end; what signs, and what will, must not.
                let later = lifetimes.iter().filter(|each| each.in_use || each.from > now);
                findings.extend(later.filter_map(|each| each.warning(now)));
                let begun = lifetimes.iter().any(|each| each.from <= now);
                if !begun {
                    findings.push(format!("no key for {role} has begun: the first signs already"));
                }
            }
        }
    }
    Ok(())
}

/// Keys that others can read, that are not encrypted, or that should not be here at all.
fn secrets(config: &Config, findings: &mut Vec<String>) {
    let all = config.issuing.iter().chain(&config.timestamps);
    let mut secrets: Vec<PathBuf> = all
        .map(|key| match &key.key {
            KeyPlace::File(path) => path.clone(),
            KeyPlace::Token(uri) => uri.pin_file().to_owned(),
        })
        .collect();
    secrets.extend(keys::LOGS.map(|(name, _)| config.directory.join(name)));
    let keys = secrets.clone();
    secrets.extend(config.passphrase_file.clone());
    secrets.extend(config.tls.as_ref().map(|files| files.key.clone()));
    for path in &secrets {
        match fs::metadata(path) {
            Err(error) => findings.push(Failure::file("read", path, &error).text()),
            Ok(file) if file.mode() & 0o077 != 0 => findings.push(format!(
                "{}: others than its owner can read it (mode {:o}); next: chmod 600",
                path.display(),
                file.mode() & 0o777
            )),
            Ok(_) => {}
        }
    }
    for path in keys {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains("PRIVATE KEY") && !keys::is_sealed(&path) {
            findings.push(format!("{}: the key is not encrypted", path.display()));
        }
    }
    for name in ["root.pem", "keys/root.pem"] {
        let path = config.directory.join(name);
        if path.exists() {
            findings.push(format!("{}: a root's key does not belong here", path.display()));
        }
    }
}

fn tls_end(certificate: &Path, now: Timestamp) -> Option<String> {
    let chain = production::read_chain(certificate).ok()?;
    let until = Certificate::parse(&chain[0]).ok()?.not_after();
    let left = until.duration_since(now);
    // Public authorities issue for weeks and renew in the last third.
    (left < SignedDuration::from_hours(24 * 7)).then(|| {
        format!("{}: the TLS certificate ends at {until}; next: renew it", certificate.display())
    })
}

fn disk(folder: &Path, findings: &mut Vec<String>) -> Result<(), Failure> {
    let disk = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| Failure::file("examine", folder, &error.into()))?;
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    if free < SPACE {
        findings.push(format!(
            "{}: the disk has {} MiB left, expected {}",
            folder.display(),
            free >> 20,
            SPACE >> 20
        ));
    }
    Ok(())
}

/// The clock cannot be before something that has been written.
fn clock(folder: &Path, now: Timestamp, findings: &mut Vec<String>) {
    for name in ["instance.json", "countersign.db", "countersign.db-wal"] {
        let Ok(file) = fs::metadata(folder.join(name)) else { continue };
        if file.mtime() > now.as_second() + 1 {
            findings.push(format!(
                "the clock is {} s behind: {name} was written later; next: set it, by NTP",
                file.mtime() - now.as_second()
            ));
        }
    }
}
