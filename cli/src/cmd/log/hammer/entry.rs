//! Entries to write: signatures over digests that nobody has signed before, by a few keys that are made
//! before the clock starts.

use super::{cpu_since, process_cpu};
use crate::failure::Failure;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use countersign_client::http::Http;
use countersign_client::services;
use countersign_client::token::IdentityToken;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::base64;
use countersign_verify::entry::{Verifier, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::merkle::{Hash, leaf_hash};
use std::hint::black_box;
use std::time::{Duration, Instant};
use url::Url;

/// Keys of one run: some more than one, as a log knows many.
const KEYS: usize = 8;

/// How long the floor is measured.
const FLOOR: Duration = Duration::from_millis(500);

const DETAILS: KeyDetails = KeyDetails::EcdsaP256Sha256;

/// Who signs in one run.
pub(super) struct Signers {
    signers: Vec<Signer>,
    /// The first entries, signed before the clock starts.
    prepared: Vec<Entry>,
    /// Tells this run's digests from those of all others.
    run: [u8; 16],
}

struct Signer {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
    /// DER.
    certificate: Option<Vec<u8>>,
    /// The verifier as it stands in a request, but for `keyDetails`.
    json: String,
}

/// A signature that is to be logged.
#[derive(Clone)]
pub(super) struct Entry {
    signer: usize,
    digest: Vec<u8>,
    signature: Vec<u8>,
}

/// What must be refused, each for a reason of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flaw {
    /// The signature is over another digest.
    Signature,
    /// The digest lacks a byte.
    DigestLength,
    /// The key is not what `keyDetails` says.
    KeyDetails,
    /// The JSON ends early.
    Json,
}

pub(super) const FLAWS: [Flaw; 4] =
    [Flaw::Signature, Flaw::DigestLength, Flaw::KeyDetails, Flaw::Json];

impl Signers {
    /// Makes the keys; with a token, has certificates issued for them by the authority at that URL.
    pub(super) async fn make(issuer: Option<(&Url, &IdentityToken)>) -> Result<Self, Failure> {
        let failed = |_| Failure::unclear("cannot make keys to sign with");
        let mut signers = Vec::new();
        for _ in 0..KEYS {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
            let spki = pair.public_key().as_der().map_err(failed)?.as_ref().to_vec();
            let certificate = match issuer {
                Some((url, token)) => Some(certify(url, token, &pair, &spki).await?),
                None => None,
            };
            let json = match &certificate {
                Some(der) => format!(r#""x509Certificate":{{"rawBytes":"{}"}}"#, base64(der)),
                None => format!(r#""publicKey":{{"rawBytes":"{}"}}"#, base64(&spki)),
            };
            signers.push(Signer { pair, spki, certificate, json });
        }
        let mut run = [0; 16];
        aws_lc_rs::rand::fill(&mut run).map_err(failed)?;
        Ok(Self { signers, prepared: Vec::new(), run })
    }

    /// Signs the first `count` entries, on all cores.
    pub(super) fn prepare(&mut self, count: u64) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let part = count.div_ceil(cores).max(1);
        let this = &*self;
        let prepared = std::thread::scope(|scope| {
            let sign = |first| {
                let numbers = first..count.min(first + part);
                scope.spawn(move || numbers.map(|number| this.signed(number)).collect::<Vec<_>>())
            };
            let parts: Vec<_> = (0..cores).map(|core| sign(core * part)).collect();
            parts.into_iter().flat_map(|part| part.join().expect("no panic in it")).collect()
        });
        self.prepared = prepared;
    }

    /// The entry with that number, never the same in two runs.
    pub(super) fn entry(&self, number: u64) -> Entry {
        let prepared = usize::try_from(number).ok().and_then(|number| self.prepared.get(number));
        prepared.cloned().unwrap_or_else(|| self.signed(number))
    }

    fn signed(&self, number: u64) -> Entry {
        let message = [&self.run[..], &number.to_be_bytes()].concat();
        let signer = usize::try_from(number % KEYS as u64).expect("a small number");
        let signature = self.signers[signer].pair.sign(&SystemRandom::new(), &message);
        let signature = signature.expect("memory is the only limit").as_ref().to_vec();
        Entry { signer, digest: HashAlgorithm::Sha256.digest(&message), signature }
    }

    /// The request that logs `entry`.
    pub(super) fn request(&self, entry: &Entry) -> Vec<u8> {
        request(&entry.digest, &entry.signature, DETAILS, &self.signers[entry.signer].json)
    }

    /// A request that resembles one for `entry` and must be refused.
    pub(super) fn flawed(&self, entry: &Entry, flaw: Flaw) -> Vec<u8> {
        let Entry { digest, signature, .. } = entry;
        let json = &self.signers[entry.signer].json;
        match flaw {
            Flaw::Signature => {
                request(&HashAlgorithm::Sha256.digest(digest), signature, DETAILS, json)
            }
            Flaw::DigestLength => request(&digest[1..], signature, DETAILS, json),
            Flaw::KeyDetails => request(digest, signature, KeyDetails::EcdsaP384Sha384, json),
            Flaw::Json => {
                let mut request = request(digest, signature, DETAILS, json);
                request.truncate(request.len() - 1);
                request
            }
        }
    }

    /// What the log must hash into its tree for `entry`.
    pub(super) fn body(&self, entry: &Entry) -> Vec<u8> {
        let signer = &self.signers[entry.signer];
        let verifier = match &signer.certificate {
            Some(der) => Verifier::Certificate(der),
            None => Verifier::PublicKey(&signer.spki),
        };
        let hash = HashAlgorithm::Sha256;
        hashedrekord_v2_body(hash, &entry.digest, &entry.signature, verifier, DETAILS)
    }

    /// Entries a second that all cores together could take if a log did nothing but read the key, verify
    /// the signature, write the body and hash the leaf.
    pub(super) fn floor(&self) -> f64 {
        let entries: Vec<_> = (0..64).map(|number| self.entry(number)).collect();
        on_all_cores(|number| {
            black_box(self.bare(&entries[(number % 64) as usize]));
        })
    }

    fn bare(&self, entry: &Entry) -> Hash {
        let signer = &self.signers[entry.signer];
        let key = match &signer.certificate {
            Some(der) => {
                let certificate = Certificate::parse(der).expect("issued for this key");
                PublicKey::from_spki(certificate.spki())
            }
            None => PublicKey::from_spki(&signer.spki),
        };
        let key = key.expect("our own key");
        let verified = key.verify_digest(HashAlgorithm::Sha256, &entry.digest, &entry.signature);
        verified.expect("our own signature");
        leaf_hash(&self.body(entry))
    }
}

/// How often a second all cores together do it; it is given a number. What others take of the cores meanwhile does not
/// count where the system tells, as a server that still indexes.
fn on_all_cores(work: impl Fn(u64) + Sync) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (started, cpu) = (Instant::now(), process_cpu());
    let count = || {
        let mut done = 0;
        while started.elapsed() < FLOOR {
            work(done);
            done += 1;
        }
        done
    };
    let done: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in it")).sum()
    });
    let seconds = match cpu_since(cpu).filter(|cpu| !cpu.is_zero()) {
        Some(cpu) => cpu.as_secs_f64() / cores as f64,
        None => started.elapsed().as_secs_f64(),
    };
    done as f64 / seconds
}

async fn certify(
    url: &Url,
    token: &IdentityToken,
    pair: &EcdsaKeyPair,
    spki: &[u8],
) -> Result<Vec<u8>, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let http = Http::new([url]).map_err(|error| unclear(&error))?;
    let proof = pair.sign(&SystemRandom::new(), token.challenge().as_bytes());
    let proof = proof.map_err(|_| Failure::unclear("cannot sign"))?;
    let issued = services::certificate(&http, url, token, spki, proof.as_ref(), None).await;
    let certificate = issued.map_err(|error| unclear(&error))?;
    let parsed = Certificate::parse(&certificate).map_err(|error| unclear(&error))?;
    if parsed.spki() == spki {
        Ok(certificate)
    } else {
        Err(Failure::unclear(format!("{url} issued a certificate for another key")))
    }
}

fn request(digest: &[u8], signature: &[u8], details: KeyDetails, verifier: &str) -> Vec<u8> {
    let (digest, signature, details) = (base64(digest), base64(signature), details.name());
    format!(
        r#"{{"hashedRekordRequestV002":{{"digest":"{digest}","signature":{{"content":"{signature}","verifier":{{"keyDetails":"{details}",{verifier}}}}}}}}}"#
    )
    .into_bytes()
}
