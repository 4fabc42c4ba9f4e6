//! A clock that is set forward and back, while the log runs and while it does not.

use crate::support::Place;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign_log::face::{rekor_v1, static_ct};
use countersign_log::signer::P256Key;
use countersign_log::{Clock, Format, Log, Options, Signer};
use countersign_testkit::SigningKey;
use countersign_verify::encoding::{base64, hex};
use countersign_verify::entry::{Verifier, promise_signed_data};
use countersign_verify::key::{HashAlgorithm, KeyDetails, PublicKey};
use countersign_verify::note::Note;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const START: i64 = 1_764_000_000;

/// Seconds from [`START`]; each is set before one entry. Between the runs the log is opened again.
const RUNS: [&[i64]; 3] = [&[0, 3600, -3600, 1], &[-7200, 60], &[31_536_000, -1, 0]];

struct SetClock(Arc<AtomicI64>);

impl SetClock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap())
    }

    fn set(&self, seconds: i64) {
        self.0.store(START + seconds, Ordering::SeqCst);
    }
}

fn key() -> Arc<P256Key> {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    Arc::new(P256Key::from_pkcs8(pkcs8.as_ref()).unwrap())
}

#[tokio::test]
async fn no_tree_head_is_older_than_the_one_before_or_than_a_receipt_in_it() {
    let (place, key, clock) = (Place::new(), key(), SetClock::new());
    let root_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&root_key).unwrap().der().to_vec();
    let issuer = Issuer::new(params, root_key);
    let (mut newest, mut receipts) = (0, 0);
    for run in RUNS {
        let signer = Signer::rfc6962("log.example.test", Arc::clone(&key), clock.clock()).unwrap();
        let (store, lock) = place.parts().await;
        let log = Log::open(Options::new(Format::Data), signer, store, lock).await.unwrap();
        let roots = [root.clone()];
        let face =
            static_ct::Face::new(log.clone(), Arc::clone(&key), &roots, clock.clock()).unwrap();
        for &seconds in run {
            clock.set(seconds);
            let signing = KeyPair::generate().unwrap();
            let leaf = CertificateParams::default().signed_by(&signing, &issuer).unwrap();
            let chain = [leaf.der().to_vec(), root.clone()];
            let receipt = face.add_chain(&chain).await.unwrap();
            assert_eq!(i64::try_from(receipt.timestamp).unwrap(), (START + seconds) * 1000);
            receipts = receipt.timestamp.max(receipts);
            let head = log.head();
            let note = Note::parse(head.note()).unwrap();
            let time = u64::from_be_bytes(*note.signatures()[0].signature.first_chunk().unwrap());
            assert!(time >= newest && time >= receipts, "{seconds}: {time} {newest} {receipts}");
            newest = time;
            // The same certificate at another time gets the first receipt's time.
            clock.set(seconds + 1000);
            assert_eq!(face.add_chain(&chain).await.unwrap().timestamp, receipt.timestamp);
        }
        log.close().await;
    }
}

#[tokio::test]
async fn a_promise_tells_the_time_of_its_entry_for_good() {
    let (place, key, clock) = (Place::new(), key(), SetClock::new());
    let id = rekor_v1::tree_id(key.spki());
    let public = PublicKey::from_spki(key.spki()).unwrap();
    let mut sent = Vec::new();
    for run in RUNS {
        let signer = Signer::rekor_v1("log.example.test", id, Arc::clone(&key)).unwrap();
        let (store, lock) = place.parts().await;
        let log = Log::open(Options::new(Format::Timed), signer, store, lock).await.unwrap();
        let tree = rekor_v1::Tree::new(log.clone(), Arc::clone(&key));
        let face = rekor_v1::Face::new(tree, clock.clock());
        for &seconds in run {
            clock.set(seconds);
            let signing = SigningKey::generate(KeyDetails::EcdsaP256Sha256);
            let message = sent.len().to_string();
            let (spki, signature) = (signing.spki(), signing.sign(message.as_bytes()));
            let pem = Verifier::PublicKey(&spki).to_pem();
            let digest = HashAlgorithm::Sha256.digest(message.as_bytes());
            let request = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex(&digest) } },
                "signature": { "content": base64(&signature),
                    "publicKey": { "content": base64(pem.as_bytes()) } } } });
            sent.push((request.to_string(), START + seconds));
            for (index, (request, time)) in (0..).zip(&sent) {
                let entry = face.submit(request.clone()).await.unwrap().entry;
                assert_eq!((entry.log_index, entry.integrated_time), (index, *time));
                let signed = promise_signed_data(&entry.body, *time, &entry.log_id, index);
                public.verify_message(&signed, &entry.promise.unwrap()).unwrap();
            }
        }
        log.close().await;
    }
}
