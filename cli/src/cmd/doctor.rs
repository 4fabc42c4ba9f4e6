//! `countersign doctor`: what is wrong with an instance, or soon will be, without its server.
//!
//! Exit status 0: nothing found, but perhaps warnings; 1: findings, one a line; 2: it could not be found out.

mod logs;

use crate::args::serve::Doctor;
use crate::config::{Config, KeyPlace};
use crate::failure::{self, Failure};
use crate::instance::{DATABASE, Settings, keys, known, production, refused_by_clients};
use crate::output;
use crate::runtime::block_on;
use countersign_ca::ceremony::Role;
use countersign_ca::identity::jwks::KeySource;
use countersign_ca::identity::{Issuer, IssuerUrl};
use countersign_verify::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
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
    let mut findings: Vec<_> = writable(&path).into_iter().collect();
    match Config::parse(&text, folder, Path::is_file) {
        Err(mistakes) => {
            findings.extend(mistakes.iter().map(|mistake| format!("configuration, {mistake}")));
        }
        Ok(config) => examine(&config, Timestamp::now(), &mut findings),
    }
    if findings.is_empty() {
        output::print(&format!("nothing found wrong with {}\n", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&findings.iter().map(|finding| format!("{finding}\n")).collect::<String>())?;
    Ok(ExitCode::from(failure::NO))
}

/// What cannot be examined is a finding, and the rest is.
fn examine(config: &Config, now: Timestamp, findings: &mut Vec<String>) {
    let failed = |outcome: Result<(), Failure>| outcome.err().map(|failure| failure.text());
    secrets(config, findings);
    match Settings::read(&config.directory) {
        Err(error) => findings.push(error.text()),
        Ok(settings) => {
            let fits = settings.map_or(Ok(()), |settings| settings.fit(&config.url));
            findings
                .extend(fits.err().map(|error| format!("configuration, url: {}", error.text())));
        }
    }
    let mut understood = true;
    match config.issuers.as_deref().map(production::issuers) {
        None => {
            findings.push("configuration: without \"issuers\" nobody gets a certificate".to_owned())
        }
        Some(Ok(issuers)) => findings.extend(failed(warn_of_silent(&issuers, now))),
        Some(Err(error)) => {
            understood = false;
            findings.push(error.text());
        }
    }
    if let Some(files) = &config.tls {
        match files.read() {
            Err(error) => findings.push(error.text()),
            Ok(_) => findings.extend(tls_end(&files.certificate, now)),
        }
    }
    let outcome = disk(&config.directory, findings);
    findings.extend(failed(outcome));
    let outcome = shards(&config.directory, findings);
    findings.extend(failed(outcome));
    clock(&config.directory, now, findings);
    let passphrase = match production::passphrase(config) {
        Ok(passphrase) => passphrase,
        // Without it no key opens.
        Err(failure) => return findings.push(failure.text()),
    };
    let passphrase = passphrase.as_ref().map(|text| &text[..]);
    let outcome = logs::examine(&config.directory, passphrase, findings);
    findings.extend(failed(outcome));
    if !understood {
        return;
    }
    match production::plan(config, passphrase) {
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
            for (role, all) in
                [(Role::Issuing, &plan.issuing), (Role::Timestamps, &plan.timestamps)]
            {
                for credential in all {
                    let refused = refused_by_clients(role, &credential.chain);
                    let name = role.name();
                    let finding =
                        |why| format!("the certificates for {name}: clients refuse {why}");
                    findings.extend(refused.into_iter().map(finding));
                }
            }
        }
    }
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
    let mut keys: BTreeSet<PathBuf> = secrets.drain(..).collect();
    keys.extend(keys::LOGS.map(|(name, _)| config.directory.join(name)));
    let folder = config.directory.join("keys");
    let others = fs::read_dir(&folder).into_iter().flatten().flatten().map(|file| file.path());
    keys.extend(others.filter(|path| path.extension().is_some_and(|end| end == "pem")));
    secrets.extend(keys.iter().cloned());
    // Whoever can exchange one of these decides who signs.
    let mut decisive = vec![config.directory.clone(), folder];
    decisive.extend(config.issuers.iter().chain(&config.policy).cloned());
    decisive.extend(config.tls.as_ref().map(|files| files.certificate.clone()));
    for path in decisive {
        findings.extend(writable(&path));
    }
    let owner = fs::metadata(&config.directory).map(|folder| folder.uid()).ok();
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
            Ok(file) if path.starts_with(&config.directory) && Some(file.uid()) != owner => {
                findings.push(format!(
                    "{}: belongs to another user ({}) than the directory; next: chown",
                    path.display(),
                    file.uid()
                ));
            }
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

/// Files and folders that others than their owner can write to.
fn writable(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode();
    (mode & 0o022 != 0).then(|| {
        let path = path.display();
        format!(
            "{path}: others than its owner can write to it (mode {:o}); next: chmod go-w",
            mode & 0o777
        )
    })
}

/// Issuers whose keys cannot be fetched now. That is none of the instance's faults, and may pass.
fn warn_of_silent(issuers: &[Issuer], now: Timestamp) -> Result<(), Failure> {
    let ask = async |issuer: &Issuer| {
        let IssuerUrl::Exact(url) = &issuer.url else { return None };
        let fetched = match KeySource::new(url, issuer.ca_cert.as_deref()) {
            Ok(keys) => keys.candidates(None, now).await.map(drop),
            Err(error) => Err(error),
        };
        fetched.err().map(|error| format!("{url}: {error}"))
    };
    let silent = block_on(futures_util::future::join_all(issuers.iter().map(ask)))?;
    for message in silent.into_iter().flatten() {
        failure::warn(&message, "nobody gets a certificate by its tokens until it answers");
    }
    Ok(())
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

/// Files that the database does not go without.
fn shards(folder: &Path, findings: &mut Vec<String>) -> Result<(), Failure> {
    let path = folder.join(DATABASE);
    if !path.exists() {
        return Ok(()); // it has not started yet
    }
    if !folder.join("instance.json").exists() {
        let missing = folder.join("instance.json");
        findings.push(format!("{} is missing; next: {}", missing.display(), known::PUT_BACK));
    }
    let known = block_on(known::shards(folder))?;
    findings.extend(known.err().map(|failure| failure.text()));
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
