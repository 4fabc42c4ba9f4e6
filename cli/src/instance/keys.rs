//! The logs' keys in files, and the keys of all authorities with when they end.

use super::{Directory, Services, directory};
use crate::failure::Failure;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_ca::ceremony::{self, Role};
use countersign_ca::credential::Credential;
use countersign_ca::signer::pkcs11::{TokenSigner, Uri};
use countersign_ca::signer::{FileSigner, Signer, sealed};
use countersign_verify::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

/// The logs' keys, and whether each is Ed25519, else on P-256.
pub(crate) const LOGS: [(&str, bool); 4] = [
    ("keys/log.pem", true),
    ("keys/log-v1.pem", false),
    ("keys/ct.pem", false),
    ("keys/audit.pem", true),
];

/// Makes those of the logs' keys that are not there yet, encrypted if there is a passphrase.
pub(crate) fn make_for_logs(
    directory: &Directory,
    passphrase: Option<&str>,
) -> Result<(), Failure> {
    LOGS.iter().try_for_each(|(name, ed25519)| make_for_log(directory, name, *ed25519, passphrase))
}

/// Makes the key of one shard, unless it is there.
pub(super) fn make_for_log(
    directory: &Directory,
    name: &str,
    ed25519: bool,
    passphrase: Option<&str>,
) -> Result<(), Failure> {
    let made = directory.secret(name, || {
        let sealed = match ed25519 {
            true => return ed25519_key(passphrase),
            false => FileSigner::generate().and_then(|key| key.to_sealed_pem(passphrase)),
        };
        sealed.map_err(|error| Failure::unclear(format!("{name}: {error}")))
    });
    made.map(drop)
}

/// A new Ed25519 key, PEM, encrypted if there is a passphrase. In version 1 of PKCS#8, without the public
/// key: OpenSSL reads no other.
pub(crate) fn ed25519_key(passphrase: Option<&str>) -> Result<Zeroizing<String>, Failure> {
    let pkcs8 = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let pkcs8 = pkcs8.map_err(|_| Failure::unclear("the system gave no randomness"))?;
    sealed::seal(pkcs8.as_ref(), passphrase).map_err(|error| Failure::unclear(error.to_string()))
}

/// A private key that is not encrypted, PKCS#8, DER, out of PEM.
pub(crate) fn pkcs8(pem: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    sealed::open(pem, None).map_err(|error| Failure::unclear(error.to_string()))
}

/// Makes the key of an authority, in `token` (a PKCS#11 URI) or in a file, encrypted if there is a
/// passphrase; returns the request to certify it, PEM. What is there already stays.
pub(crate) fn make_for_authority(
    folder: &Path,
    name: &str,
    role: Role,
    organization: &str,
    token: Option<&str>,
    passphrase: Option<&str>,
) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::unclear(format!("{name}: {error}"));
    let path = folder.join(format!("keys/{name}.pem"));
    let signer: Box<dyn Signer> = match token {
        Some(uri) => {
            let uri = Uri::parse(uri).map_err(|error| failed(&error))?;
            Box::new(TokenSigner::generate(&uri).map_err(|error| failed(&error))?)
        }
        None if path.exists() => {
            let signer = FileSigner::from_pkcs8(&read(&path, passphrase)?);
            Box::new(signer.map_err(|error| failed(&error))?)
        }
        None => {
            let signer = FileSigner::generate().map_err(|error| failed(&error))?;
            let pem = signer.to_sealed_pem(passphrase).map_err(|error| failed(&error))?;
            directory::write(&path, pem.as_bytes())?;
            Box::new(signer)
        }
    };
    let request =
        ceremony::request(role, organization, &*signer).map_err(|error| failed(&error))?;
    directory::write(&folder.join(format!("requests/{name}.csr")), request.as_bytes())?;
    if let Some(uri) = token {
        // So that the certificate, when it comes, finds where its key is.
        directory::write(&folder.join(format!("requests/{name}.key")), uri.as_bytes())?;
    }
    Ok(request)
}

/// Whether the key in the file takes a passphrase.
pub(crate) fn is_sealed(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|pem| sealed::is_sealed(&pem))
}

/// A private key, PKCS#8, DER.
pub(crate) fn read(path: &Path, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = fs::read_to_string(path).map(Zeroizing::new);
    let pem = pem.map_err(|error| Failure::file("read", path, &error))?;
    sealed::open(&pem, passphrase).map_err(|error| {
        let failure = Failure::unclear(format!("{}: {error}", path.display()));
        match error {
            countersign_ca::signer::Error::File => failure,
            _ => failure.hint("the passphrase is the first line of a file (of a server's keys passphrase-file below [keys], of a root's --passphrase-file), else the systemd credential countersign-passphrase, else asked for"),
        }
    })
}

/// A key with its certificate, and how long that lasts.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    /// `issuing` or `timestamps`.
    pub(crate) role: &'static str,
    /// The certificate's subject key, SHA-256, hexadecimal.
    pub(crate) key: String,
    /// Whether it signs now.
    pub(crate) in_use: bool,
    /// When it begins to sign.
    pub(crate) from: Timestamp,
    /// From when on all certificates of its chain are valid.
    pub(crate) valid_from: Timestamp,
    /// When the first certificate of its chain ends.
    pub(crate) until: Timestamp,
}

/// How long before its end a key is warned of: time for a ceremony, and for clients to learn of the next
/// one.
const NOTICE: SignedDuration = SignedDuration::from_hours(24 * 60);

impl Lifetime {
    /// What is to be said if it is to sign before its certificates are valid.
    pub(crate) fn early(&self, now: Timestamp) -> Option<String> {
        let Self { role, valid_from, from, .. } = self;
        let signs = now.max(*from);
        (signs < *valid_from).then(|| {
            format!(
                "the certificate for {role} is valid from {valid_from} on, later than its key signs; next: check the clocks of this machine and of the root's, or wait"
            )
        })
    }

    /// What is to be said about its times: of its end, if that is near.
    pub(crate) fn warning(&self, now: Timestamp) -> Option<String> {
        let Self { role, until, .. } = self;
        if let Some(early) = self.early(now) {
            return Some(early);
        }
        let left = until.duration_since(now);
        let days = left.as_hours() / 24;
        if left.is_negative() {
            Some(format!("the certificate for {role} ended at {until}"))
        } else if left < NOTICE {
            Some(format!(
                "the certificate for {role} ends in {days} days, at {until}; next: countersign ca rotate {role}"
            ))
        } else {
            None
        }
    }
}

impl Services {
    /// The certificates in use, by name, and when they expire: `issuing` with those between it and the `root`,
    /// `timestamps` with all above.
    pub(crate) fn expiries(&self) -> Vec<(&'static str, Timestamp)> {
        let now = Timestamp::now();
        let end = |der: &Vec<u8>| Certificate::parse(der).ok().map(|each| each.not_after());
        let first_end = |chain: &[Vec<u8>]| chain.iter().filter_map(end).min();
        let mut all = Vec::new();
        for (name, credentials) in [("issuing", &self.issuing), ("timestamps", &self.stamping)] {
            let begun = credentials.iter().filter(|credential| credential.from <= now);
            let Some(current) = begun.max_by_key(|credential| credential.from) else { continue };
            match current.chain.split_last() {
                Some((root, below)) if name == "issuing" => {
                    let below = first_end(below).or_else(|| end(root));
                    all.extend(below.map(|end| (name, end)));
                    all.extend(end(root).map(|end| ("root", end)));
                }
                _ => all.extend(first_end(&current.chain).map(|end| (name, end))),
            }
        }
        all
    }

    /// All keys with their certificates, for whoever watches when they end.
    pub(crate) fn lifetimes(&self, now: Timestamp) -> Vec<Lifetime> {
        let of = |role, all: &[Credential]| lifetimes(role, all, now);
        [of("issuing", &self.issuing), of("timestamps", &self.stamping)].concat()
    }
}

/// The keys of one authority.
pub(crate) fn lifetimes(role: &'static str, all: &[Credential], now: Timestamp) -> Vec<Lifetime> {
    let begun = all.iter().filter(|credential| credential.from <= now);
    let current = begun.map(|credential| credential.from).max();
    let lifetime = |credential: &Credential| {
        let parsed = |der: &Vec<u8>| Certificate::parse(der).ok();
        let chain = || credential.chain.iter().filter_map(parsed);
        let until = chain().map(|each| each.not_after()).min();
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, credential.signer.spki());
        Lifetime {
            role,
            key: countersign_verify::encoding::hex(digest.as_ref()),
            in_use: Some(credential.from) == current,
            from: credential.from,
            valid_from: chain().map(|each| each.not_before()).max().unwrap_or(Timestamp::MAX),
            until: until.unwrap_or(Timestamp::MIN),
        }
    };
    all.iter().map(lifetime).collect()
}
