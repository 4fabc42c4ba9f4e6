//! A whole instance in memory: certificate authority, both logs, timestamp authority.

mod forge;

pub use forge::{Head, Leaf, Named, Receipt, Stamp};

use crate::der::{oid, sequence, set, tlv};
use crate::key::SigningKey;
use crate::shape::envelope;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_verify::bundle::{Bundle, Content, LogEntry, Material, MessageSignature, Proof};
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::base64;
use countersign_verify::entry::{Verifier, hashedrekord_v1_body, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails, ed25519_spki};
use countersign_verify::merkle::{Hash, leaf_hash, node_hash};
use countersign_verify::note::{self, Note};
use countersign_verify::sct::{SHA256_ECDSA, Sct, list_extension, precert_signed_data};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize, SanType,
};

/// The Rekor v2 log's host: origin and signature name.
const HOST: &str = "log.example.test";
/// The Rekor v1 log's host: signature name, and beginning of the origin.
const V1_HOST: &str = "rekor.example.test";
/// The key identifier that the timestamp certificate has.
pub const TIMESTAMP_KEY_ID: [u8; 20] = *b"key of the timestamp";
/// Entries in earlier shards of the Rekor v1 log.
const V1_EARLIER: u64 = 1000;
/// 1.3.6.1.4.1.57264.1
const FULCIO: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];
const SCT_LIST: [u64; 11] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2, 0];
const SHA256: [u32; 9] = [2, 16, 840, 1, 101, 3, 4, 2, 1];

/// Keys and certificates of an instance; each one made has its own.
pub struct Instance {
    root: Vec<u8>,
    issuer_certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    timestamp_certificate: Vec<u8>,
    timestamp_key: KeyPair,
    certificate_log: KeyPair,
    log: Ed25519KeyPair,
    v1_log: KeyPair,
    /// When everything is made; the trusted root starts an hour before.
    pub now: Timestamp,
}

/// A signing key, with its certificate unless it is a managed one.
pub struct Signer {
    /// DER.
    pub certificate: Option<Vec<u8>>,
    key: SigningKey,
}

impl Instance {
    /// An instance with fresh keys, at a fixed time.
    #[must_use]
    pub fn new() -> Self {
        Self::with_timestamp_key(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// One whose timestamps are signed with RSA.
    #[must_use]
    pub fn with_rsa_timestamps() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Self::with_timestamp_key(key.unwrap())
    }

    fn with_timestamp_key(timestamp_key: KeyPair) -> Self {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let [root_key, issuer_key, certificate_log, v1_log] =
            [(); 4].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let root_params = authority("root", now, vec![]);
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let root = (root, Issuer::new(root_params, root_key));
        let issuer_params = authority("issuer", now, vec![ExtendedKeyUsagePurpose::CodeSigning]);
        let issuer_certificate = issuer_params.signed_by(&issuer_key, &root.1).unwrap();
        let mut stamping = params(now, 3600 * 24 * 365);
        stamping.distinguished_name.push(DnType::CommonName, "timestamps");
        stamping.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // rcgen writes extended key usage without the critical mark that RFC 3161 demands.
        let purpose = sequence(&[&oid(&[1, 3, 6, 1, 5, 5, 7, 3, 8])]);
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], purpose);
        usage.set_criticality(true);
        let key_id = CustomExtension::from_oid_content(&[2, 5, 29, 14], tlv(4, &TIMESTAMP_KEY_ID));
        stamping.custom_extensions = vec![usage, key_id];
        let timestamp_certificate = stamping.signed_by(&timestamp_key, &root.1).unwrap();
        let seed: [u8; 32] = aws_lc_rs::rand::generate(&SystemRandom::new()).unwrap().expose();
        Self {
            root: root.0,
            issuer_certificate: issuer_certificate.der().to_vec(),
            issuer: Issuer::new(issuer_params, issuer_key),
            timestamp_certificate: timestamp_certificate.der().to_vec(),
            timestamp_key,
            certificate_log,
            v1_log,
            log: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
            now,
        }
    }

    /// `trusted_root.json`.
    #[must_use]
    pub fn trusted_root(&self) -> String {
        let window = serde_json::json!({ "start": (self.now - jiff::SignedDuration::from_hours(1)).to_string() });
        let log = |url: &str, spki: &[u8], details: &str, id: &[u8]| {
            serde_json::json!({
                "baseUrl": url, "hashAlgorithm": "SHA2_256",
                "publicKey": { "rawBytes": base64(spki), "keyDetails": details, "validFor": window },
                "logId": { "keyId": base64(id) } })
        };
        let chain = |certificates: &[&[u8]]| {
            let certificates =
                certificates.iter().map(|der| serde_json::json!({ "rawBytes": base64(der) }));
            serde_json::json!({
                "subject": {}, "uri": "https://authority.example.test",
                "certChain": { "certificates": certificates.collect::<Vec<_>>() }, "validFor": window })
        };
        let certificate_log = self.certificate_log.subject_public_key_info();
        let v1_log = self.v1_log.subject_public_key_info();
        serde_json::json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                log(&format!("https://{HOST}"), &ed25519_spki(&self.log_key()), "PKIX_ED25519", &self.log_id()),
                log(&format!("https://{V1_HOST}"), &v1_log, "PKIX_ECDSA_P256_SHA_256", Hash::of(&v1_log).as_bytes()),
            ],
            "certificateAuthorities": [chain(&[&self.issuer_certificate, &self.root])],
            "ctlogs": [log("https://ct.example.test", &certificate_log, "PKIX_ECDSA_P256_SHA_256",
                Hash::of(&certificate_log).as_bytes())],
            "timestampAuthorities": [chain(&[&self.timestamp_certificate, &self.root])],
        })
        .to_string()
    }

    /// A signing certificate for a workflow's URI, as the OIDC issuer `issuer` vouches for it.
    #[must_use]
    pub fn certify(&self, uri: &str, issuer: &str) -> Signer {
        self.certify_key(uri, issuer, KeyDetails::EcdsaP256Sha256)
    }

    /// The same for another kind of key.
    #[must_use]
    pub fn certify_key(&self, uri: &str, issuer: &str, details: KeyDetails) -> Signer {
        self.certify_with(uri, issuer, |leaf| leaf.key = details)
    }

    /// A complete bundle over `artifact`.
    #[must_use]
    pub fn sign(&self, signer: &Signer, artifact: &[u8]) -> Bundle {
        let signature = signer.sign(artifact);
        let digest = HashAlgorithm::Sha256.digest(artifact);
        let content = MessageSignature { hash: HashAlgorithm::Sha256, digest, signature };
        let (digest, signature) = (content.digest.clone(), content.signature.clone());
        self.bundle(signer, &digest, &signature, Content::Message(content))
    }

    /// A complete bundle with an in-toto statement about `artifact`.
    #[must_use]
    pub fn attest(&self, signer: &Signer, artifact: &[u8]) -> Bundle {
        let envelope = envelope(signer, artifact, "https://in-toto.io/Statement/v1");
        let signature = envelope.signature.clone();
        let digest = envelope.pae_digest(HashAlgorithm::Sha256);
        self.bundle(signer, &digest, &signature, Content::Dsse(envelope))
    }

    fn bundle(&self, signer: &Signer, digest: &[u8], signature: &[u8], content: Content) -> Bundle {
        let body = hashedrekord_v2_body(
            HashAlgorithm::Sha256,
            digest,
            signature,
            Verifier::Certificate(signer.certificate()),
            KeyDetails::EcdsaP256Sha256,
        );
        let material = Material::Certificate(signer.certificate().to_vec());
        Bundle::new(material, vec![self.log(body)], vec![self.timestamp(signature)], content)
            .unwrap()
    }

    /// A complete bundle over `artifact` as clients of Rekor v1 make it: the log's promise tells the time.
    #[must_use]
    pub fn sign_v1(&self, signer: &Signer, artifact: &[u8]) -> Bundle {
        let signature = signer.sign(artifact);
        let digest = HashAlgorithm::Sha256.digest(artifact);
        let verifier = Verifier::Certificate(signer.certificate());
        let body = hashedrekord_v1_body(HashAlgorithm::Sha256, &digest, &signature, verifier);
        let content = MessageSignature { hash: HashAlgorithm::Sha256, digest, signature };
        let material = Material::Certificate(signer.certificate().to_vec());
        Bundle::new(material, vec![self.log_v1(body)], vec![], Content::Message(content)).unwrap()
    }

    /// Logs a hashedrekord `body` with the Rekor v1 log, as leaf 2 of a shard of three, a minute after
    /// `now`.
    #[must_use]
    pub fn log_v1(&self, body: Vec<u8>) -> LogEntry {
        self.log_v1_as("hashedrekord", "0.0.1", body)
    }

    /// The same for an entry of another kind.
    #[must_use]
    pub fn log_v1_as(&self, kind: &str, version: &str, body: Vec<u8>) -> LogEntry {
        let (kind, version) = (kind.to_owned(), version.to_owned());
        LogEntry { kind, version, ..self.log_v1_with(body, |_| {}) }
    }

    /// Logs `body` as leaf 2 of a tree of three.
    #[must_use]
    pub fn log(&self, body: Vec<u8>) -> LogEntry {
        self.log_with(body, |_| {})
    }

    /// When timestamps are made unless said otherwise: a minute after the certificate was issued.
    #[must_use]
    pub fn stamped(&self) -> Timestamp {
        self.now + jiff::SignedDuration::from_mins(1)
    }

    /// An RFC 3161 response over `signed`, a minute after the certificate was issued.
    #[must_use]
    pub fn timestamp(&self, signed: &[u8]) -> Vec<u8> {
        self.timestamp_with(signed, self.stamped(), false)
    }

    /// An RFC 3161 response over `signed` at `time`, with the authority's certificate or without.
    #[must_use]
    pub fn timestamp_with(&self, signed: &[u8], time: Timestamp, embedded: bool) -> Vec<u8> {
        self.stamp(signed, |stamp| (stamp.time, stamp.certificates) = (time, embedded))
    }

    /// The issuing CA's certificate, DER.
    #[must_use]
    pub fn issuer_certificate(&self) -> Vec<u8> {
        self.issuer_certificate.clone()
    }

    /// The root's certificate, DER.
    #[must_use]
    pub fn root_certificate(&self) -> Vec<u8> {
        self.root.clone()
    }

    /// The certificate that timestamps are signed with, DER.
    #[must_use]
    pub fn timestamp_certificate(&self) -> Vec<u8> {
        self.timestamp_certificate.clone()
    }

    fn log_key(&self) -> [u8; 32] {
        self.log.public_key().as_ref().try_into().unwrap()
    }

    fn log_id(&self) -> [u8; 32] {
        note::ed25519_key_id(HOST, &self.log_key())
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self::new()
    }
}

impl Signer {
    /// A managed key, without a certificate.
    #[must_use]
    pub fn with_key(details: KeyDetails) -> Self {
        Self { certificate: None, key: SigningKey::generate(details) }
    }

    /// Signs `message` in the key's way.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message)
    }

    /// The key's SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        self.key.spki()
    }

    /// What the key is and how it signs.
    #[must_use]
    pub const fn details(&self) -> KeyDetails {
        self.key.details()
    }

    /// The certificate, DER.
    ///
    /// # Panics
    /// When it is a managed key.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.certificate.as_deref().expect("a signer with a certificate")
    }
}

/// A tree of two other entries and `body`: the proof's one hash, and the root.
fn tree(body: &[u8]) -> (Hash, Hash) {
    let [first, second] = [b"first", &b"other"[..]].map(leaf_hash);
    let left = node_hash(&first, &second);
    (left, node_hash(&left, &leaf_hash(body)))
}

fn params(now: Timestamp, seconds: i64) -> CertificateParams {
    let time = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = time(now);
    params.not_after = time(now + jiff::SignedDuration::from_secs(seconds));
    params
}

fn authority(
    name: &str,
    now: Timestamp,
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> CertificateParams {
    let mut params = params(now, 3600 * 24 * 365);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = usages;
    params
}
