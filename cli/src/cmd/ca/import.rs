//! `countersign ca import`: a certificate joins its key.

use super::describe;
use crate::args::serve::Import;
use crate::config::Config;
use crate::failure::Failure;
use crate::instance::{directory, production, refused_by_clients};
use crate::output;
use countersign_ca::ceremony::{self, Role};
use countersign_verify::certificate::{CODE_SIGNING, Certificate};
use countersign_verify::chain::{CertificateAuthority, TimestampAuthority};
use countersign_verify::trusted_root::Window;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a key is published before it signs, unless told: clients refresh what they trust daily.
const NOTICE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn run(args: &Import) -> Result<(), Failure> {
    let chain = production::read_chain(&args.certificates)?;
    let text = install(&args.place.file(), &chain, args.begin.r#in)?;
    output::print(&text)
}

/// Puts `chain` beside the key that it is for, and into the configuration if that does not have it yet:
/// the key then takes over after `notice`, which only makes sense for such a key. Returns what to say.
pub(in crate::cmd) fn install(
    configuration: &Path,
    chain: &[Vec<u8>],
    notice: Option<Duration>,
) -> Result<String, Failure> {
    let folder = configuration.parent().unwrap_or(Path::new("."));
    let mut text = fs::read_to_string(configuration)
        .map_err(|error| Failure::file("read", configuration, &error))?;
    // What the server cannot read, nothing is added to. Certificates may be missing yet.
    let config = Config::parse(&text, folder, |_| true).map_err(|_| {
        Failure::unclear(format!("{} has mistakes", configuration.display()))
            .hint("countersign doctor lists them")
    })?;
    let (name, role) = key_of(&config.directory, chain)?;
    check(role, chain)?;
    let certificates = config.directory.join("keys").join(format!("{name}.crt"));
    let mut all = config.issuing.iter().chain(&config.timestamps);
    let known = all.find(|key| key.certificates == certificates).map(|key| key.from);
    if known.is_some() && notice.is_some() {
        let message = format!(
            "--in: {} has {name} already, and says when it signs from",
            configuration.display()
        );
        let hint = format!("change \"from\" of {name} there, and have the server reload it");
        return Err(Failure::unclear(message).hint(hint));
    }
    let notice = notice.unwrap_or(NOTICE);
    let now = Timestamp::now();
    let from = now.checked_add(notice);
    let from = from.map_err(|error| Failure::unclear(format!("--in: {error}")))?;
    let from = Timestamp::from_second(from.as_second() + 1).unwrap_or(from);
    valid_at(known.unwrap_or(from).max(now), chain)?;
    directory::write(&certificates, production::write_chain(chain).as_bytes())?;
    // Restart finds a certificate that the configuration may not name yet: it is not used.
    let described = describe(&format!("The certificate of {name}"), &chain[0])?;
    if known.is_some() {
        return Ok(described);
    }
    let keys = certificates.parent().unwrap_or(folder);
    let shown = |suffix: &str| {
        let path = keys.join(format!("{name}.{suffix}"));
        path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path).display().to_string()
    };
    text.push_str(&format!(
        "\n# Takes over from the one before at this time; published from the next reload on.\n[[{}]]\nkey = {:?}\ncertificates = {:?}\nfrom = \"{from}\"\n",
        role.name(),
        fs::read_to_string(config.directory.join(format!("requests/{name}.key")))
            .unwrap_or_else(|_| shown("pem")),
        shown("crt"),
    ));
    if let Err(mistakes) = Config::parse(&text, folder, Path::is_file) {
        let all: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        return Err(Failure::unclear(format!("it does not fit: {}", all.join("; "))));
    }
    directory::write(configuration, text.as_bytes())?;
    // Restart finds the new key published, and uses it from its time on.
    let wait = SignedDuration::try_from(notice).unwrap_or(SignedDuration::ZERO);
    Ok(format!(
        "{described}It signs from {from} on, in {wait:#}. Until then clients learn of it.\nPublish it now, by a reload of the server:\n  systemctl reload countersign, or kill -HUP its process\n"
    ))
}

/// The name and role of the key whose signing request asks for what `chain` certifies.
fn key_of(folder: &Path, chain: &[Vec<u8>]) -> Result<(String, Role), Failure> {
    let parsed = Certificate::parse(&chain[0])
        .map_err(|error| Failure::no(format!("the first certificate: {error}")))?;
    let requests = folder.join("requests");
    let listed =
        fs::read_dir(&requests).map_err(|error| Failure::file("read", &requests, &error))?;
    for entry in listed.flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let role = match name.split('-').next() {
            Some("issuing") => Role::Issuing,
            Some("timestamps") => Role::Timestamps,
            _ => continue,
        };
        let key = fs::read(&path).ok().and_then(|pem| ceremony::requested_key(&pem).ok());
        if key.is_some_and(|key| key == parsed.spki()) {
            return Ok((name.to_owned(), role));
        }
    }
    let message = format!(
        "expected a certificate for a key that {} asks for; found one for another key",
        requests.display()
    );
    Err(Failure::no(message).hint("the first certificate in the file must be the server's own"))
}

/// Whether all certificates are valid when their key begins to sign.
fn valid_at(from: Timestamp, chain: &[Vec<u8>]) -> Result<(), Failure> {
    for der in chain {
        let parsed = Certificate::parse(der)
            .map_err(|error| Failure::no(format!("the certificates: {error}")))?;
        let (begin, end) = (parsed.not_before(), parsed.not_after());
        if from < begin || end <= from {
            return Err(Failure::no(format!(
                "expected certificates that are valid at {from}, when their key begins to sign; found one that is from {begin} to {end}"
            ))
            .hint("check the clocks of this machine and of the root's, or have the root certify the key again"));
        }
    }
    Ok(())
}

/// What the server will demand of the chain.
fn check(role: Role, chain: &[Vec<u8>]) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::no(format!("the certificates do not do for {}: {error}", role.name()))
            .hint("expected the server's certificate first and its root last")
    };
    let any_time = Window { start: None, end: None };
    let ders = chain.iter().map(Vec::as_slice).collect();
    match role {
        Role::Issuing => {
            let authority =
                CertificateAuthority::new(ders, any_time).map_err(|error| refused(&error))?;
            let usages = authority.issuer().extended_key_usage();
            let usages = usages.map_err(|error| refused(&error))?;
            if !usages.is_some_and(|usages| usages.contains(&CODE_SIGNING)) {
                return Err(refused(&"expected the extended key usage codeSigning"));
            }
        }
        Role::Timestamps => {
            let authority = TimestampAuthority::new(String::new(), ders, any_time);
            authority.map_err(|error| refused(&error))?;
        }
    }
    let refusals = refused_by_clients(role, chain);
    if refusals.is_empty() {
        return Ok(());
    }
    let all = refusals.join("; ");
    let message = format!("the certificates do not do for {}: clients refuse {all}", role.name());
    Err(Failure::no(message).hint(
        "have them made anew, as docs/production.md says; countersign ca ceremony makes them so",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_valid_when_their_key_begins_to_sign_or_refused() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ceremony = ceremony::create("Acme", now).unwrap();
        let issuing = Certificate::parse(&ceremony.issuing.1).unwrap();
        let (start, end) = (issuing.not_before(), issuing.not_after());
        let chain = [ceremony.issuing.1, ceremony.root.1];
        let second = SignedDuration::from_secs(1);
        for (from, expected) in
            [(start - second, false), (start, true), (end - second, true), (end, false)]
        {
            assert_eq!(valid_at(from, &chain).is_ok(), expected, "{from}");
        }
    }
}
