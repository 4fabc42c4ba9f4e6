//! `countersign ca ceremony`: the root, made and used offline.
//!
//! The root's directory holds `root.pem` (its key, encrypted), `root.crt`, `organization` and
//! `transcript.txt`. The key is one and whole: how copies and passphrase are shared out is the owners' to
//! decide, and nothing here does it silently.

use super::{describe, fingerprint};
use crate::args::serve::{Ceremony, CeremonyCommand, Curve, Network, Sealing, Sign};
use crate::failure::Failure;
use crate::instance::{directory, keys, production};
use crate::{config, output, passphrase};
use countersign_ca::ceremony::{self, Role};
use countersign_ca::signer::{Algorithm, FileSigner, Signer};
use jiff::Timestamp;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY: &str = "root.pem";
const CERTIFICATE: &str = "root.crt";
const ORGANIZATION: &str = "organization";
const TRANSCRIPT: &str = "transcript.txt";

pub(super) fn run(args: &Ceremony) -> Result<(), Failure> {
    if let Some(CeremonyCommand::Sign(args)) = &args.sign {
        return sign(args);
    }
    let missing = |flag: &str| Failure::unclear(format!("{flag} is missing"));
    let out = args.out.as_deref().ok_or_else(|| missing("--out"))?;
    let organization = args.organization.as_deref().ok_or_else(|| missing("--organization"))?;
    let network = offline(&args.network)?;
    let passphrase = sealing(&args.sealing, "the root's key")?;
    create(out, organization, args.curve, passphrase.as_ref(), &network)?;
    output::print(&format!(
        "\nKeep {} offline, and copies of it in other places. For each signing request of a server:\n  countersign ca ceremony sign --root {0} --csr FILE --as issuing --out FILE\n",
        out.display()
    ))
}

/// The passphrase for new keys, unless they are to stay readable.
pub(in crate::cmd) fn sealing(
    sealing: &Sealing,
    what: &str,
) -> Result<Option<Zeroizing<String>>, Failure> {
    match sealing.unencrypted_keys {
        true => Ok(None),
        false => passphrase::choose(sealing.passphrase_file.as_deref(), what).map(Some),
    }
}

/// Makes a root in `out`, prints the transcript and keeps it there.
pub(in crate::cmd) fn create(
    out: &Path,
    organization: &str,
    curve: Curve,
    passphrase: Option<&Zeroizing<String>>,
    network: &str,
) -> Result<(), Failure> {
    let organization = config::organization(organization).map_err(|expected| {
        Failure::unclear(format!("--organization: expected {}", expected.what()))
    })?;
    if out.join(KEY).exists() {
        let message = format!("there is a root in {} already", out.display());
        return Err(Failure::unclear(message).hint("name a new directory with --out"));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::unclear(format!("the root: {error}"));
    let now = Timestamp::now();
    let (algorithm, kind) = match curve {
        Curve::P256 => (Algorithm::EcdsaP256Sha256, "ECDSA P-256"),
        Curve::P384 => (Algorithm::EcdsaP384Sha384, "ECDSA P-384"),
    };
    let key = FileSigner::generate_for(algorithm).map_err(|error| failed(&error))?;
    let certificate = ceremony::root(&key, &organization, now).map_err(|error| failed(&error))?;
    let passphrase = passphrase.map(|passphrase| &passphrase[..]);
    let pem = key.to_sealed_pem(passphrase).map_err(|error| failed(&error))?;
    directory::write(&out.join(KEY), pem.as_bytes())?;
    directory::write(&out.join(ORGANIZATION), organization.as_bytes())?;
    // With the certificate the ceremony is complete; a key alone was used for nothing.
    let chain = production::write_chain(std::slice::from_ref(&certificate));
    directory::write(&out.join(CERTIFICATE), chain.as_bytes())?;
    let kept = match passphrase {
        Some(_) => "encrypted with the passphrase",
        None => "NOT encrypted",
    };
    let text = format!(
        "Root ceremony of {organization} at {now}, countersign {}\n{network}\nKey: {kind}, one key and whole, {kept}, in {KEY}\n{}",
        env!("CARGO_PKG_VERSION"),
        describe("Root certificate", &certificate)?,
    );
    record(out, &text)
}

fn sign(args: &Sign) -> Result<(), Failure> {
    if args.out.exists() {
        let message = format!("{} is there already", args.out.display());
        return Err(Failure::unclear(message).hint("name a new file with --out"));
    }
    let network = offline(&args.network)?;
    let root = Root::open(&args.root, args.passphrase_file.as_deref())?;
    let request = fs::read(&args.csr).map_err(|error| Failure::file("read", &args.csr, &error))?;
    let chain =
        root.certify(args.role.into(), &request, &args.csr.display().to_string(), &network)?;
    directory::write(&args.out, production::write_chain(&chain).as_bytes())?;
    output::print(&format!(
        "\nOn the server:\n  countersign ca import --dir DIR {}\n",
        args.out.display()
    ))
}

/// A root whose key is open.
pub(in crate::cmd) struct Root<'a> {
    folder: &'a Path,
    organization: String,
    key: Arc<dyn Signer>,
    certificate: Vec<u8>,
}

impl<'a> Root<'a> {
    /// Opens the root in `folder`.
    pub(in crate::cmd) fn open(
        folder: &'a Path,
        passphrase_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let path = folder.join(ORGANIZATION);
        let organization = fs::read_to_string(&path);
        let organization = organization.map_err(|error| {
            Failure::file("read", &path, &error)
                .hint("make a root with countersign ca ceremony --out DIR --organization NAME")
        })?;
        let chain = production::read_chain(&folder.join(CERTIFICATE))?;
        let key = folder.join(KEY);
        let passphrase = match keys::is_sealed(&key) {
            true => Some(passphrase::find(passphrase_file)?),
            false => None,
        };
        let key = production::signer(&key, passphrase.as_ref().map(|text| &text[..]))?;
        let [certificate] = <[Vec<u8>; 1]>::try_from(chain).map_err(|_| {
            Failure::unclear(format!("{CERTIFICATE}: expected one certificate, the root's"))
        })?;
        Ok(Self { folder, organization: organization.trim().to_owned(), key, certificate })
    }

    /// Answers a signing request, PEM, with a chain: the new certificate and the root's.
    pub(in crate::cmd) fn certify(
        &self,
        role: Role,
        request: &[u8],
        name: &str,
        network: &str,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::no(format!("{name}: {error}"));
        let spki = ceremony::requested_key(request).map_err(|error| refused(&error))?;
        if let Some(asked) = ceremony::requested_role(request).filter(|asked| *asked != role) {
            let (asked, role) = (asked.name(), role.name());
            return Err(refused(&format!("expected a request for {role}, found one for {asked}"))
                .hint("one key must not have both roles; is it the right file?"));
        }
        let now = Timestamp::now();
        let (key, root) = (&*self.key, &self.certificate);
        let certificate = ceremony::certify(role, &spki, &self.organization, key, root, now);
        let certificate = certificate.map_err(|error| refused(&error))?;
        let text = format!(
            "Certified for {} at {now}, countersign {}\n{network}\nSigning request SHA-256 {}\n{}{}",
            role.name(),
            env!("CARGO_PKG_VERSION"),
            fingerprint(request),
            describe("New certificate", &certificate)?,
            describe("By the root", root)?,
        );
        record(self.folder, &text)?;
        Ok(vec![certificate, root.clone()])
    }
}

/// Prints a part of the transcript and adds it to the one that is kept.
fn record(folder: &Path, text: &str) -> Result<(), Failure> {
    let path = folder.join(TRANSCRIPT);
    let failed = |error| Failure::file("write", &path, &error);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    output::print(text)
}

/// Refuses while a network is up, unless told; returns the transcript's line about it.
pub(in crate::cmd) fn offline(network: &Network) -> Result<String, Failure> {
    let interfaces = getifaddrs()
        .map_err(|error| Failure::unclear(format!("cannot list network interfaces: {error}")))?;
    let up: BTreeSet<_> = interfaces
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP)
                && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .map(|interface| interface.interface_name)
        .collect();
    let up: Vec<_> = up.into_iter().collect();
    match (up.is_empty(), network.with_network_up) {
        (true, _) => Ok("Network: none is up but loopback".to_owned()),
        (false, true) => Ok(format!("Network: UP, by the operator's word: {}", up.join(", "))),
        (false, false) => Err(Failure::unclear(format!(
            "a network is up: {}. The root's key is for a machine without",
            up.join(", ")
        ))
        .hint("take the network down, or run this in an empty network namespace (unshare -rn); --with-network-up goes on all the same")),
    }
}
