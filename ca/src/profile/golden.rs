//! A certificate of each kind of identity, byte for byte: `testdata/certificates`. With `COUNTERSIGN_BLESS=1` the
//! test writes them anew.

use super::*;
use crate::identity::vectors::{Case, cases, identity};
use crate::signer::FileSigner;
use std::path::PathBuf;
use std::process::Command;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

/// The same key each time, out of its number.
fn key(number: u8) -> FileSigner {
    // ECPrivateKey of RFC 5915, then PKCS#8 of RFC 5208 around it.
    let private = [&[0x30, 0x25, 2, 1, 1, 4, 0x20][..], &[number; 32]].concat();
    let algorithm = hex::decode("301306072a8648ce3d020106082a8648ce3d030107").unwrap();
    let length = u8::try_from(3 + algorithm.len() + 2 + private.len()).unwrap();
    let private_length = u8::try_from(private.len()).unwrap();
    let der = [&[0x30, length, 2, 1, 0][..], &algorithm, &[4, private_length], &private].concat();
    let pem = der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, &der).unwrap();
    FileSigner::from_pem(&pem).unwrap()
}

/// The authority of all of them: the issuing key, its certificate and the root's.
fn authority_of_all() -> (FileSigner, Vec<u8>, Vec<u8>) {
    let at = |second| Timestamp::from_second(NOW + second).unwrap();
    let (root, issuing) = (key(1), key(2));
    let validity = (at(-86_400), at(86_400 * 365));
    let root_der =
        authority(Authority::Root, "CN=golden root,O=Golden", root.spki(), None, &root, validity)
            .unwrap();
    let above = Certificate::parse(&root_der).unwrap();
    let issuing_der = authority(
        Authority::Issuing,
        "CN=golden issuing,O=Golden",
        issuing.spki(),
        Some(&above),
        &root,
        validity,
    );
    (issuing, issuing_der.unwrap(), root_der)
}

fn issue(case: &Case, signer: &FileSigner, issuing: &[u8], root: &[u8]) -> Vec<u8> {
    let [issuing, root] = [issuing, root].map(|der| Certificate::parse(der).unwrap());
    let issuer = Issuer::new(&issuing, &[root]).unwrap();
    let identity = identity(&case.mapping, &case.claims).unwrap();
    let serial = std::array::from_fn(|place| u8::try_from(place).unwrap() + 1);
    let now = Timestamp::from_second(NOW).unwrap();
    let prepared = Prepared::new(&identity, None, key(3).spki(), &serial, &issuer, now).unwrap();
    let (precertificate, rest) = prepared.sign_precertificate(signer).unwrap();
    let sct = Sct {
        log_id: [7; 32],
        timestamp: NOW.unsigned_abs() * 1000,
        extensions: countersign_verify::sct::leaf_index_extension(112).to_vec(),
        algorithm: countersign_verify::sct::SHA256_ECDSA,
        signature: vec![9; 70],
    };
    let certificate = rest.sign(sct, signer).unwrap();
    let precertificate = Certificate::parse(&precertificate).unwrap();
    let logged = countersign_verify::sct::precertificate_tbs(&precertificate).unwrap();
    crate::precert::corresponds(&precertificate, &logged, &certificate).unwrap();
    certificate
}

#[test]
fn certificates_of_every_kind_are_what_they_were_to_the_byte() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/certificates"));
    let (signer, issuing, root) = authority_of_all();
    for case in cases() {
        let certificate = issue(&case, &signer, &issuing, &root);
        let path = folder.join(format!("{}.pem", case.name));
        if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
            let pem =
                der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, &certificate);
            std::fs::write(&path, pem.unwrap()).unwrap();
        }
        let golden =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let golden = der::pem::decode_vec(&golden).unwrap().1;
        // The signature is another each time; it is checked below.
        let body = |der: &[u8]| Certificate::parse(der).unwrap().tbs().to_vec();
        assert_eq!(hex::encode(body(&certificate)), hex::encode(body(&golden)), "{}", case.name);
        x509_parser_agrees(&case, &golden, &issuing);
    }
}

/// What another library finds in a certificate: each extension in its place, with the bytes that clients read.
fn x509_parser_agrees(case: &Case, der: &[u8], issuing: &[u8]) {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    let (_, issuing) = X509Certificate::from_der(issuing).unwrap();
    assert!(rest.is_empty());
    certificate.verify_signature(Some(issuing.public_key())).unwrap();
    let validity = certificate.validity();
    assert_eq!((validity.not_before.timestamp(), validity.not_after.timestamp()), (NOW, NOW + 600));
    assert_eq!(certificate.subject().as_raw(), [0x30, 0]);
    assert_eq!(certificate.issuer().as_raw(), issuing.subject().as_raw());
    let text = |value: &str| {
        let length = value.len();
        let length = match length {
            0..128 => vec![u8::try_from(length).unwrap()],
            128..256 => vec![0x81, u8::try_from(length).unwrap()],
            _ => [&[0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        };
        [&[0x0c][..], &length, value.as_bytes()].concat()
    };
    let claims = case.extensions.iter().map(|(number, value)| {
        let bytes = if *number <= 6 { value.as_bytes().to_vec() } else { text(value) };
        (format!("1.3.6.1.4.1.57264.1.{number}"), false, Some(bytes))
    });
    let fixed = |id: &str, critical, bytes: Option<&str>| {
        (id.to_owned(), critical, bytes.map(|bytes| hex::decode(bytes).unwrap()))
    };
    let mut expected = vec![
        fixed("2.5.29.15", true, Some("03020780")),
        fixed("2.5.29.37", false, Some("300a06082b06010505070303")),
        fixed("2.5.29.14", false, None),
        fixed("2.5.29.35", false, None),
        fixed("2.5.29.17", true, None),
    ];
    expected.extend(claims);
    expected.push(fixed("1.3.6.1.4.1.11129.2.4.2", false, None));
    let found: Vec<_> = certificate
        .extensions()
        .iter()
        .zip(&expected)
        .map(|(found, (_, _, bytes))| {
            (found.oid.to_id_string(), found.critical, bytes.as_ref().map(|_| found.value.to_vec()))
        })
        .collect();
    assert_eq!(found, expected, "{}", case.name);
    assert_eq!(certificate.extensions().len(), expected.len(), "{}", case.name);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let [name] = &names.value.general_names[..] else { panic!("one name") };
    let name = format!("{name:?}");
    match &case.san {
        San::Uri(uri) => assert_eq!(name, format!("URI({uri:?})")),
        San::Email(email) => assert_eq!(name, format!("RFC822Name({email:?})")),
        San::Username(_) => {
            assert!(name.starts_with("OtherName(OID(1.3.6.1.4.1.57264.1.7)"), "{name}")
        }
    }
}

#[test]
fn openssl_accepts_certificates_of_every_kind_in_strict_mode() {
    let (_, issuing, root) = authority_of_all();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, der: &[u8]| {
        let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (issuing, root) = (write("issuing", &issuing), write("root", &root));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/certificates");
    for case in cases() {
        for (time, accepted) in
            [(NOW, true), (NOW + 599, true), (NOW - 1, false), (NOW + 601, false)]
        {
            let output = Command::new("openssl")
                .args([
                    "verify",
                    "-x509_strict",
                    "-check_ss_sig",
                    "-purpose",
                    "any",
                    "-attime",
                    &time.to_string(),
                ])
                .arg("-CAfile")
                .args([&root])
                .arg("-untrusted")
                .args([&issuing])
                .arg(format!("{golden}/{}.pem", case.name))
                .output()
                .expect("openssl is needed here");
            assert_eq!(output.status.success(), accepted, "{} at {time}: {output:?}", case.name);
        }
    }
}
