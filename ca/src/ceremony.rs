//! Making the authorities of an instance: root, issuing CA, timestamp certificate.
//!
//! Two tiers, apart: the root is made offline by [`root`], the server makes its keys and a signing request
//! for each ([`request`], RFC 2986), and the root answers with a certificate ([`certify`]). A request
//! decides nothing but the key: name, purpose and lifetime are the root's to say. [`create`] does all of it
//! in one place, for development instances and tests.

use crate::possession;
use crate::profile::{self, Authority, authority};
use crate::signer::{Algorithm, FileSigner, Signer};
use countersign_verify::certificate::Certificate;
use countersign_verify::key::KeyKind;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode as _, Encode as _, Sequence};
use jiff::{SignedDuration, Timestamp};
use spki::AlgorithmIdentifier;

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
    let key = FileSigner::generate_for(algorithm)?;
    let certificate = root(&key, organization, now)?;
    let below = |role: Role| {
        let below = FileSigner::generate_for(algorithm)?;
        let der = role.certificate(below.spki(), organization, &key, &certificate, now)?;
        Ok::<_, profile::Error>((below, der))
    };
    let (issuing, timestamps) = (below(Role::Issuing)?, below(Role::Timestamps)?);
    Ok(Ceremony { issuing, timestamps, root: (key, certificate) })
}

/// The certificate of a root, DER, signed by its own `key`.
///
/// # Errors
/// When the name does not fit or the key does not sign.
pub fn root(
    key: &dyn Signer,
    organization: &str,
    now: Timestamp,
) -> Result<Vec<u8>, profile::Error> {
    let name = name(organization, "root");
    authority(Authority::Root, &name, key.spki(), None, key, validity(now, ROOT)?)
}

/// What a key below the root is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// To sign certificates.
    Issuing,
    /// To sign timestamps.
    Timestamps,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Timestamps => "timestamps",
        }
    }

    fn certificate(
        self,
        spki: &[u8],
        organization: &str,
        root_key: &dyn Signer,
        root: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, profile::Error> {
        let root = Certificate::parse(root).map_err(|_| profile::Error::Root)?;
        let kind = match self {
            Self::Issuing => Authority::Issuing,
            Self::Timestamps => Authority::Timestamps,
        };
        let (start, end) = validity(now, BELOW)?;
        // Nothing below a root outlives it, or begins before it.
        let validity = (start.max(root.not_before()), end.min(root.not_after()));
        if validity.0 >= validity.1 {
            return Err(profile::Error::RootValidity {
                from: root.not_before(),
                until: root.not_after(),
            });
        }
        let name = name(organization, self.name());
        authority(kind, &name, spki, Some(&root), root_key, validity)
    }
}

fn name(organization: &str, role: &str) -> String {
    format!("CN={organization} {role},O={organization}")
}

fn validity(
    now: Timestamp,
    lifetime: SignedDuration,
) -> Result<(Timestamp, Timestamp), profile::Error> {
    let start = Timestamp::from_second(now.as_second() - 3600).map_err(|_| profile::Error::Time)?;
    Ok((start, start + lifetime))
}

#[derive(Sequence)]
struct Info<'a> {
    version: u8,
    subject: AnyRef<'a>,
    key: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    attributes: der::asn1::SetOfVec<der::Any>,
}

#[derive(Sequence)]
struct SigningRequest<'a> {
    info: AnyRef<'a>,
    algorithm: AlgorithmIdentifier<AnyRef<'a>>,
    signature: BitStringRef<'a>,
}

/// A request to certify `key`, PEM. The name in it is for whoever looks at it.
///
/// # Errors
/// When the name does not fit or the key does not sign.
pub fn request(role: Role, organization: &str, key: &dyn Signer) -> Result<String, profile::Error> {
    let subject: x509_cert::name::Name = name(organization, role.name()).parse()?;
    let subject = subject.to_der()?;
    let info = Info {
        version: 0,
        subject: AnyRef::from_der(&subject)?,
        key: AnyRef::from_der(key.spki())?,
        attributes: der::asn1::SetOfVec::new(),
    };
    let info = info.to_der()?;
    let signature = key.sign(&info)?;
    let request = SigningRequest {
        info: AnyRef::from_der(&info)?,
        algorithm: AlgorithmIdentifier { oid: key.algorithm().oid(), parameters: None },
        signature: BitStringRef::from_bytes(&signature)?,
    };
    let der = request.to_der()?;
    let pem = der::pem::encode_string("CERTIFICATE REQUEST", der::pem::LineEnding::LF, &der);
    Ok(pem.expect("memory is the only limit"))
}

/// The key of a request, SubjectPublicKeyInfo, DER; whoever made the request holds it.
///
/// # Errors
/// When it is no request, or not signed by its own key, which is on P-256 or P-384.
pub fn requested_key(request: &[u8]) -> Result<Vec<u8>, possession::Error> {
    let key = possession::signing_request(request)?;
    match key.kind() {
        KeyKind::P256 | KeyKind::P384 => Ok(key.spki().to_vec()),
        _ => Err(possession::Error::SigningRequest),
    }
}

/// What a request by [`request`] says that its key is for; nothing where others made it. For whoever answers it, to
/// notice a mix-up.
#[must_use]
pub fn requested_role(request: &[u8]) -> Option<Role> {
    let (_, der) = der::pem::decode_vec(request).ok()?;
    let info: Info<'_> = SigningRequest::from_der(&der).ok()?.info.decode_as().ok()?;
    let subject: x509_cert::name::Name = info.subject.decode_as().ok()?;
    let subject = subject.to_string();
    let named = |role: &Role| subject.contains(&format!(" {},O=", role.name()));
    [Role::Issuing, Role::Timestamps].into_iter().find(named)
}

/// A certificate, DER, for the key `spki` in that role, by the root.
///
/// # Errors
/// When the root has ended, the name does not fit or the root's key does not sign.
pub fn certify(
    role: Role,
    spki: &[u8],
    organization: &str,
    root_key: &dyn Signer,
    root: &[u8],
    now: Timestamp,
) -> Result<Vec<u8>, profile::Error> {
    role.certificate(spki, organization, root_key, root, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_for_its_key_and_what_is_altered_is_none() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let root_key = FileSigner::generate_for(Algorithm::EcdsaP384Sha384).unwrap();
        let root = root(&root_key, "Acme", now).unwrap();
        let key = FileSigner::generate().unwrap();
        let pem = request(Role::Issuing, "Acme", &key).unwrap();
        let spki = requested_key(pem.as_bytes()).unwrap();
        assert_eq!(spki, key.spki());
        for role in [Role::Issuing, Role::Timestamps] {
            let pem = request(role, "Acme issuing", &key).unwrap();
            assert_eq!(requested_role(pem.as_bytes()), Some(role));
        }
        let der = certify(Role::Issuing, &spki, "Acme", &root_key, &root, now).unwrap();
        assert_eq!(Certificate::parse(&der).unwrap().spki(), key.spki());

        let der = der::pem::decode_vec(pem.as_bytes()).unwrap().1;
        for place in 0..der.len() {
            let mut altered = der.clone();
            altered[place] ^= 1;
            let pem =
                der::pem::encode_string("CERTIFICATE REQUEST", der::pem::LineEnding::LF, &altered);
            assert!(requested_key(pem.unwrap().as_bytes()).is_err(), "byte {place}");
        }
    }

    #[test]
    fn nothing_below_a_root_outlives_it() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let root_key = FileSigner::generate().unwrap();
        let root = root(&root_key, "Acme", now).unwrap();
        let ends = Certificate::parse(&root).unwrap().not_after();
        let key = FileSigner::generate().unwrap();
        let at = |now| certify(Role::Timestamps, key.spki(), "Acme", &root_key, &root, now);
        let late = at(ends - SignedDuration::from_hours(24)).unwrap();
        assert_eq!(Certificate::parse(&late).unwrap().not_after(), ends);
        let after = at(ends + SignedDuration::from_hours(2));
        assert!(matches!(after, Err(profile::Error::RootValidity { .. })));
    }
}
