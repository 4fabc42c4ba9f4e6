//! Making the authorities of an instance: root, issuing CA, timestamp certificate.

use crate::profile::{self, Authority, authority};
use crate::signer::{Algorithm, FileSigner, Signer as _};
use countersign_verify::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};

/// Ten years: what a root lasts.
const ROOT: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// Three years: what the authorities below it last.
const BELOW: SignedDuration = SignedDuration::from_hours(24 * 1095);

/// A hierarchy with all its keys.
#[derive(Debug)]
pub struct Ceremony {
    /// The root's key and certificate, DER. The key is for this ceremony only: keep it offline.
    pub root: (FileSigner, Vec<u8>),
    /// The issuing CA's key and certificate, DER.
    pub issuing: (FileSigner, Vec<u8>),
    /// The timestamp authority's key and certificate, DER.
    pub timestamps: (FileSigner, Vec<u8>),
}

/// Makes root, issuing CA and timestamp certificate for `organization` (a short name of letters, digits,
/// spaces and hyphens), valid from an hour before `now`, so that clocks that run late accept them.
///
/// # Errors
/// When the name does not fit or there is no randomness.
pub fn create(organization: &str, now: Timestamp) -> Result<Ceremony, profile::Error> {
    create_for(Algorithm::EcdsaP256Sha256, organization, now)
}

/// As [`create`], with keys that sign with `algorithm`.
///
/// # Errors
/// As there.
pub fn create_for(
    algorithm: Algorithm,
    organization: &str,
    now: Timestamp,
) -> Result<Ceremony, profile::Error> {
    let start = Timestamp::from_second(now.as_second() - 3600).map_err(|_| profile::Error::Time)?;
    let name = |role: &str| format!("CN={organization} {role},O={organization}");
    let until = |lifetime| (start, start + lifetime);
    let root = FileSigner::generate_for(algorithm)?;
    let root_der =
        authority(Authority::Root, &name("root"), root.spki(), None, &root, until(ROOT))?;
    let root_certificate = Certificate::parse(&root_der).expect("a certificate just made parses");
    let below = |kind, role: &str| {
        let key = FileSigner::generate_for(algorithm)?;
        let (name, issuer) = (name(role), Some(&root_certificate));
        let der = authority(kind, &name, key.spki(), issuer, &root, until(BELOW))?;
        Ok::<_, profile::Error>((key, der))
    };
    let issuing = below(Authority::Issuing, "issuing")?;
    let timestamps = below(Authority::Timestamps, "timestamps")?;
    Ok(Ceremony { issuing, timestamps, root: (root, root_der) })
}
