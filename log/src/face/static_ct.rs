//! Static certificate transparency (C2SP static-ct-api on RFC 6962): certificates and precertificates
//! as entries, signed timestamps as receipts.
//!
//! A submission is a chain that ends in one of the log's roots; every signature in it is checked, and
//! that issuers are CAs. Dates, extended key usage and revocation are not: what a CA signed must be
//! loggable. Unlike most certificate logs this one returns an entry's receipt after publication.
//!
//! The leaf holds its time and index. A repeat is told by its certificate, for precertificates by TBS
//! and issuer key, and gets the first time and index under a new signature.

use crate::Clock;
use crate::engine::Log;
use crate::pool::{AppendError, Candidate, Leaf};
use crate::proof;
use crate::signer::{self, P256Key};
use crate::store::StoreError;
use countersign_verify::certificate::{self, Certificate, POISON};
use countersign_verify::encoding::{base64, hex};
use countersign_verify::key::{self, PublicKey};
use countersign_verify::limits::MAX_CHAIN;
use countersign_verify::merkle::{Hash, leaf_hash};
use countersign_verify::sct::{self, Sct};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// A certificate log as clients see it. Clones are the same log.
#[derive(Clone)]
pub struct Face(Arc<Inner>);

struct Inner {
    log: Log,
    key: Arc<P256Key>,
    roots: Vec<Certificate>,
    clock: Clock,
    /// Chains of issuers that were checked and stored, by the hash of their bytes. CAs are few; when
    /// there are more than [`KNOWN_CHAINS`], all are forgotten and checked again.
    known: Mutex<HashMap<Hash, Arc<Issuers>>>,
}

const KNOWN_CHAINS: usize = 64;

/// The certificates above a submission, checked up to a root.
struct Issuers {
    /// That of the first one, which signed the submission.
    key: PublicKey,
    name: Vec<u8>,
    key_hash: [u8; 32],
    /// SHA-256 of each certificate, issuing CA first.
    fingerprints: Vec<Hash>,
}

/// What is logged of a submission.
enum Submission {
    Certificate(Vec<u8>),
    Precertificate { der: Vec<u8>, tbs: Vec<u8>, issuer_key_hash: [u8; 32] },
}

impl Face {
    /// A log of format [`Data`](crate::Format::Data), signed by `key`, that takes chains to `roots`,
    /// DER.
    ///
    /// # Errors
    /// When a root does not parse.
    pub fn new(
        log: Log,
        key: Arc<P256Key>,
        roots: &[Vec<u8>],
        clock: Clock,
    ) -> Result<Self, Error> {
        let roots = roots.iter().map(|der| parse(0, der)).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner { log, key, roots, clock, known: Mutex::default() })))
    }

    /// The engine.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The roots, DER.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.0.roots.iter().map(Certificate::der)
    }

    /// Logs a precertificate. `chain` is DER: the precertificate, its issuer, and so on; the root may
    /// be left out.
    ///
    /// # Errors
    /// When the chain is refused or the log cannot take it.
    pub async fn add_pre_chain(&self, chain: &[Vec<u8>]) -> Result<Sct, Error> {
        let (first, issuers) = self.check(chain).await?;
        let poison = first.extension(POISON);
        if !poison.is_some_and(|poison| poison.critical && poison.value == [5, 0]) {
            return Err(Error::NotPoisoned);
        }
        let issuers = issuers.ok_or(Error::NoIssuer)?;
        let tbs = sct::precertificate_tbs(&first)?;
        let (der, issuer_key_hash) = (first.der().to_vec(), issuers.key_hash);
        let submission = Submission::Precertificate { der, tbs, issuer_key_hash };
        self.append(submission, &issuers.fingerprints).await
    }

    /// Logs a certificate. `chain` is DER: the certificate, its issuer, and so on; the root may be
    /// left out.
    ///
    /// # Errors
    /// When the chain is refused or the log cannot take it.
    pub async fn add_chain(&self, chain: &[Vec<u8>]) -> Result<Sct, Error> {
        let (first, issuers) = self.check(chain).await?;
        if first.extension(POISON).is_some() {
            return Err(Error::Poisoned);
        }
        let fingerprints = issuers.as_ref().map_or(&[][..], |issuers| &issuers.fingerprints);
        self.append(Submission::Certificate(first.der().to_vec()), fingerprints).await
    }

    /// Logs the CA's own certificate, with its `chain` as for [`add_chain`](Self::add_chain), in an
    /// empty log, so that no signing certificate has index 0: proofs for that one are empty.
    ///
    /// # Errors
    /// When the chain is refused or the log cannot take it.
    pub async fn seed(&self, chain: &[Vec<u8>]) -> Result<(), Error> {
        if self.0.log.head().checkpoint().size > 0 {
            return Ok(());
        }
        self.add_chain(chain).await.map(|_| ())
    }

    /// Checks a submission's signature, and the chain above it unless it is a known one.
    async fn check(&self, chain: &[Vec<u8>]) -> Result<(Certificate, Option<Arc<Issuers>>), Error> {
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(Error::ChainLength { limit: MAX_CHAIN, found: chain.len() });
        }
        let first = parse(0, &chain[0])?;
        if chain.len() == 1 && self.is_root(&first) {
            return Ok((first, None));
        }
        let issuers = self.issuers(&first, &chain[1..]).await?;
        if first.issuer() != issuers.name {
            return Err(Error::OtherIssuer { certificate: 0 });
        }
        verify(0, &first, &issuers.key)?;
        Ok((first, Some(issuers)))
    }

    async fn issuers(&self, first: &Certificate, above: &[Vec<u8>]) -> Result<Arc<Issuers>, Error> {
        let identity = match above {
            [] => Hash::of(first.issuer()),
            _ => Hash::of(&above.concat()),
        };
        if let Some(issuers) = self.0.known.lock().get(&identity) {
            return Ok(Arc::clone(issuers));
        }
        let numbered = above.iter().enumerate();
        let mut chain: Vec<_> =
            numbered.map(|(place, der)| parse(place + 1, der)).collect::<Result<_, _>>()?;
        let last = chain.last().unwrap_or(first);
        if !self.is_root(last) {
            let issued = |root: &&Certificate| {
                root.subject() == last.issuer()
                    && PublicKey::from_spki(root.spki())
                        .is_ok_and(|key| verify(0, last, &key).is_ok())
            };
            chain.push(self.0.roots.iter().find(issued).ok_or(Error::NoRoot)?.clone());
        }
        for (place, pair) in chain.windows(2).enumerate() {
            let [certificate, issuer] = pair else { unreachable!("windows of two") };
            if certificate.issuer() != issuer.subject() {
                return Err(Error::OtherIssuer { certificate: place + 1 });
            }
            verify(place + 1, certificate, &PublicKey::from_spki(issuer.spki())?)?;
        }
        for (place, issuer) in chain.iter().enumerate() {
            let constraints = issuer.basic_constraints();
            let constraints = constraints.map_err(refused(place + 1))?;
            if !constraints.is_some_and(|constraints| constraints.ca) {
                return Err(Error::NotACa { certificate: place + 1 });
            }
        }
        let fingerprints: Vec<_> = chain.iter().map(|issuer| Hash::of(issuer.der())).collect();
        for (issuer, fingerprint) in chain.iter().zip(&fingerprints) {
            let path = format!("issuer/{fingerprint:?}");
            self.0.log.store().put(&path, issuer.der().to_vec().into()).await?;
        }
        let spki = chain[0].spki();
        let issuers = Arc::new(Issuers {
            key: PublicKey::from_spki(spki)?,
            name: chain[0].subject().to_vec(),
            key_hash: *Hash::of(spki).as_bytes(),
            fingerprints,
        });
        let mut known = self.0.known.lock();
        if known.len() >= KNOWN_CHAINS {
            known.clear();
        }
        known.insert(identity, Arc::clone(&issuers));
        Ok(issuers)
    }

    fn is_root(&self, certificate: &Certificate) -> bool {
        self.0.roots.iter().any(|root| root.der() == certificate.der())
    }

    async fn append(&self, submission: Submission, issuers: &[Hash]) -> Result<Sct, Error> {
        let timestamp = (self.0.clock)().as_millisecond();
        let timestamp = u64::try_from(timestamp).map_err(|_| Error::Clock)?;
        let submission = Arc::new(submission);
        let (identity, length) = (submission.identity(), submission.length());
        let (leaf, issuers) = (Arc::clone(&submission), issuers.to_vec());
        let leaf = move |index| leaf.leaf(timestamp, index, &issuers);
        let appended = self.0.log.append(Candidate::indexed(identity, length, leaf)).await?;
        let record = match appended.record {
            Some(record) => record,
            None => {
                let missing = || proof::Error::Missing { path: "tile/data".to_owned() };
                self.0.log.record(appended.index).await?.ok_or_else(missing)?
            }
        };
        let time = record.first_chunk().expect("a record begins with its time");
        let timestamp = u64::from_be_bytes(*time);
        let extensions = sct::leaf_index_extension(appended.index).to_vec();
        let signature = self.0.key.sign(&submission.signed_data(timestamp, &extensions))?;
        let (log_id, algorithm) = (*self.0.key.log_id(), sct::SHA256_ECDSA);
        Ok(Sct { log_id, timestamp, extensions, algorithm, signature })
    }
}

impl Submission {
    /// Entry type and entry: of the data that is signed, the part between time and extensions.
    fn identity(&self) -> Hash {
        let signed = self.signed_data(0, &[]);
        Hash::of(&signed[10..signed.len() - 2])
    }

    fn length(&self) -> usize {
        match self {
            Self::Certificate(der) => der.len(),
            Self::Precertificate { der, tbs, .. } => der.len() + tbs.len(),
        }
    }

    fn signed_data(&self, timestamp: u64, extensions: &[u8]) -> Vec<u8> {
        match self {
            Self::Certificate(der) => sct::x509_signed_data(timestamp, der, extensions),
            Self::Precertificate { tbs, issuer_key_hash, .. } => {
                sct::precert_signed_data(timestamp, issuer_key_hash, tbs, extensions)
            }
        }
    }

    /// The data that the receipt signs is the Merkle leaf; without its first two bytes it begins the
    /// TileLeaf, see [`record`](crate::record).
    fn leaf(&self, timestamp: u64, index: u64, issuers: &[Hash]) -> Leaf {
        let leaf = self.signed_data(timestamp, &sct::leaf_index_extension(index));
        let mut record = leaf[2..].to_vec();
        if let Self::Precertificate { der, .. } = self {
            let length = u32::try_from(der.len()).expect("certificates end at 64 KiB");
            record.extend(&length.to_be_bytes()[1..]);
            record.extend(der);
        }
        let length = u16::try_from(32 * issuers.len()).expect("chains are short");
        record.extend(length.to_be_bytes());
        record.extend(issuers.iter().flat_map(Hash::as_bytes));
        Leaf { hash: leaf_hash(&leaf), record: record.into() }
    }
}

/// The reply of `add-chain` and `add-pre-chain` (RFC 6962, section 4.1).
#[must_use]
pub fn sct_json(sct: &Sct) -> String {
    let length = u16::try_from(sct.signature.len()).expect("a signature is short");
    let signature = [&[4, 3][..], &length.to_be_bytes(), &sct.signature].concat();
    json!({
        "sct_version": 0,
        "id": base64(&sct.log_id),
        "timestamp": sct.timestamp,
        "extensions": base64(&sct.extensions),
        "signature": base64(&signature),
    })
    .to_string()
}

/// The name of an issuer's certificate in the store, out of the one in a request: 64 hexadecimal
/// digits in lower case.
pub(crate) fn issuer_path(fingerprint: &str) -> Option<String> {
    let bytes = countersign_verify::encoding::from_hex(fingerprint).ok()?;
    (bytes.len() == 32 && hex(&bytes) == fingerprint).then(|| format!("issuer/{fingerprint}"))
}

fn parse(place: usize, der: &[u8]) -> Result<Certificate, Error> {
    Certificate::parse(der).map_err(refused(place))
}

fn refused(certificate: usize) -> impl Fn(certificate::Error) -> Error {
    move |source| Error::Certificate { certificate, source }
}

fn verify(place: usize, certificate: &Certificate, issuer: &PublicKey) -> Result<(), Error> {
    let (algorithm, signature) = (certificate.signature_algorithm(), certificate.signature());
    let verdict = issuer.verify_with_oid(algorithm, certificate.tbs(), signature);
    verdict.map_err(|source| Error::Signature { certificate: place, source })
}

/// Why a chain was not logged. Certificates are counted from 0, the submission.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None, or too many.
    #[error("a chain has 1 to {limit} certificates, found {found}")]
    ChainLength {
        /// Certificates allowed.
        limit: usize,
        /// Certificates found.
        found: usize,
    },
    /// One does not parse.
    #[error("certificate {certificate} of the chain: {source}")]
    Certificate {
        /// Its place.
        certificate: usize,
        /// Why.
        source: certificate::Error,
    },
    /// One does not name the next as its issuer.
    #[error("the issuer of certificate {certificate} is not the subject of the next one")]
    OtherIssuer {
        /// Its place.
        certificate: usize,
    },
    /// One is not signed by the next.
    #[error("certificate {certificate} of the chain is not signed by the next one: {source}")]
    Signature {
        /// Its place.
        certificate: usize,
        /// Why.
        source: key::Error,
    },
    /// An issuer may not issue.
    #[error("certificate {certificate} of the chain is not a CA certificate")]
    NotACa {
        /// Its place.
        certificate: usize,
    },
    /// The chain leads elsewhere.
    #[error("the chain does not end in a root that this log accepts")]
    NoRoot,
    /// A root cannot be a precertificate.
    #[error("a precertificate needs its issuer in the chain")]
    NoIssuer,
    /// `add-pre-chain` with a certificate.
    #[error("expected a precertificate: the critical poison extension is missing")]
    NotPoisoned,
    /// `add-chain` with a precertificate.
    #[error("expected a certificate, found a precertificate: it has the poison extension")]
    Poisoned,
    /// The clock stands before 1970.
    #[error("the log's clock is not set")]
    Clock,
    /// The precertificate's TBS.
    #[error(transparent)]
    Tbs(#[from] sct::Error),
    /// An issuer's key.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The log's own key.
    #[error(transparent)]
    Signing(#[from] signer::Error),
    /// The log did not take the entry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// An issuer's certificate could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry is in the log and could not be read back.
    #[error(transparent)]
    Proof(#[from] proof::Error),
}
