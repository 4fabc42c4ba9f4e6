//! Receipts of certificate logs: what is signed, to the byte, and by which keys.

use countersign_testkit::Signer;
use countersign_verify::certificate::Certificate;
use countersign_verify::key::{Error, KeyDetails, PublicKey};
use countersign_verify::sct::{
    SHA256_ECDSA, SHA256_RSA, Sct, precert_signed_data, precertificate_tbs, x509_signed_data,
};
use rcgen::{CertificateParams, KeyPair};

/// RFC 6962, section 3.2.
#[test]
fn what_a_log_signs_is_laid_out_as_the_rfc_has_it() {
    let time = 0x0102_0304_0506_0708;
    let expected = [
        &[0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], // v1, certificate_timestamp, milliseconds
        &[0, 1],                             // precert_entry
        &[9; 32],
        &[0, 1, 4], // 260 bytes
        &[7; 260],
        &[0, 2, 5, 6],
    ];
    assert_eq!(precert_signed_data(time, &[9; 32], &[7; 260], &[5, 6]), expected.concat());
    let expected =
        [&[0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 0], &[0, 1, 4], &[7; 260], &[0, 2, 5, 6]];
    assert_eq!(x509_signed_data(time, &[7; 260], &[5, 6]), expected.concat());
}

#[test]
fn a_receipt_is_by_an_algorithm_of_its_logs_key() {
    let message = b"what a log signs";
    for (details, fits) in
        [(KeyDetails::Rsa2048Sha256, SHA256_RSA), (KeyDetails::EcdsaP256Sha256, SHA256_ECDSA)]
    {
        let log = Signer::with_key(details);
        let key = PublicKey::from_spki(&log.spki()).unwrap();
        let signature = log.sign(message);
        // The last two are SHA-512 with ECDSA, and Ed25519.
        for algorithm in [SHA256_RSA, SHA256_ECDSA, [6, 3], [8, 7]] {
            let signature = signature.clone();
            let sct =
                Sct { log_id: [0; 32], timestamp: 0, extensions: vec![], algorithm, signature };
            let expected =
                if algorithm == fits { Ok(()) } else { Err(Error::Scheme { kind: key.kind() }) };
            assert_eq!(sct.verify(&key, message), expected, "{details:?}, {algorithm:?}");
            let other = sct.verify(&key, b"what no log signed");
            assert!(other.is_err(), "{details:?}, {algorithm:?}");
        }
    }
}

#[test]
fn of_a_certificate_without_extensions_all_is_signed() {
    let key = KeyPair::generate().unwrap();
    let plain = CertificateParams::default().self_signed(&key).unwrap();
    let plain = Certificate::parse(plain.der()).unwrap();
    assert!(plain.extensions().is_empty());
    assert_eq!(precertificate_tbs(&plain).unwrap(), plain.tbs());
}
