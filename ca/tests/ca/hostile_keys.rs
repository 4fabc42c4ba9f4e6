//! Keys, proofs and signing requests that attackers and mistaken clients send, each with its refusal. All are
//! built here byte by byte, as no tool makes them.

use crate::world::{EMAIL, World};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_verify::certificate::Certificate;
use serde_json::{Value, json};

/// DER: tag, length, and the parts one after the other.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = match body.len() {
        short @ 0..0x80 => vec![short as u8],
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..];
            [&[0x80 | bytes.len() as u8][..], bytes].concat()
        }
    };
    [&[tag][..], &length, &body].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

/// An unsigned INTEGER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if bytes.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    der(2, &[sign, bytes])
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    der(3, &[&[0], bytes])
}

fn oid(text: &str) -> Vec<u8> {
    der(6, &[text.parse::<const_oid::ObjectIdentifier>().unwrap().as_bytes()])
}

const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";
const RSA: &str = "1.2.840.113549.1.1.1";
const ED25519: &str = "1.3.101.112";
const NULL: [u8; 2] = [5, 0];

/// SubjectPublicKeyInfo.
fn spki(algorithm: &str, parameters: &[u8], key: &[u8]) -> Vec<u8> {
    sequence(&[&sequence(&[&oid(algorithm), parameters]), &bits(key)])
}

fn ec(curve: &str, point: &[u8]) -> Vec<u8> {
    spki(EC, &oid(curve), point)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    spki(RSA, &NULL, &sequence(&[&integer(modulus), &integer(exponent)]))
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A number of so many bits, odd and without small factors but by chance: a key that nobody can use.
fn modulus(size: usize) -> Vec<u8> {
    let mut bytes: Vec<_> = (0..size.div_ceil(8)).map(|place| (place * 151 + 89) as u8).collect();
    bytes[0] = match size % 8 {
        0 => 0xc5,
        rest => 1 << (rest - 1),
    };
    // Not a multiple of the primes below 752, tried the slow way.
    let last = bytes.len() - 1;
    bytes[last] = 1;
    let remainder = |bytes: &[u8], prime: u32| {
        bytes.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
    };
    while (3..752).any(|number| remainder(&bytes, number) == 0) {
        bytes[last] = bytes[last].wrapping_add(2);
        if bytes[last] == 1 {
            bytes[last - 1] = bytes[last - 1].wrapping_add(1);
        }
    }
    bytes
}

impl World {
    /// The client's public point, uncompressed.
    fn point(&self) -> Vec<u8> {
        self.client.public_key().as_ref().to_vec()
    }

    fn proof(&self, message: &[u8]) -> Vec<u8> {
        self.client.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// A request for `content`, with a proof by the client's key.
    fn for_key(&self, content: &str) -> Value {
        let proof = STANDARD.encode(self.proof(EMAIL.as_bytes()));
        json!({ "publicKeyRequest": { "publicKey": { "content": content },
            "proofOfPossession": proof } })
    }

    /// A signing request of these parts with the client's signature over its information.
    fn signing_request(&self, info: &[u8], algorithm: &str) -> Vec<u8> {
        let signature = self.proof(info);
        sequence(&[info, &sequence(&[&oid(algorithm)]), &bits(&signature)])
    }

    /// Each must be refused with 400 and its reason, and leave an entry that says so; all that are not are told.
    async fn all_keys_refused(&self, cases: &[(String, Value, &str)]) {
        let token = self.sign(&self.claims());
        let mut wrong = Vec::new();
        for (what, body, reason) in cases {
            let (status, text) = self.post("/api/v2/signingCert", &token, body.to_string()).await;
            let answer: Value = serde_json::from_str(&text).unwrap();
            let found = answer["details"][0]["reason"].as_str().unwrap_or("a certificate");
            let recorded = self.lines().pop().is_some_and(|entry| entry["reason"] == found);
            if (status, found, recorded) != (400, *reason, true) {
                wrong.push(format!("{what}: expected {reason}, found {status} {text:.200}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(self.lines().len(), cases.len(), "one entry each");
    }
}

fn csr(der: &[u8]) -> Value {
    json!({ "certificateSigningRequest": STANDARD.encode(pem("CERTIFICATE REQUEST", der)) })
}

#[tokio::test]
async fn keys_that_are_none_of_the_accepted_ones_are_refused() {
    let world = World::new().await;
    let point = world.point();
    let good = ec(P256, &point);
    let mut cases = Vec::new();
    let mut case = |what: &str, der: Vec<u8>, reason| {
        cases.push((what.to_owned(), world.for_key(&pem("PUBLIC KEY", &der)), reason));
    };
    let (x, y) = (&point[1..33], &point[33..]);
    let other = |place: usize| {
        let mut point = point.clone();
        point[place] ^= 1;
        point
    };
    for (what, bytes) in [
        ("a point off the curve, by x", other(32)),
        ("a point off the curve, by y", other(64)),
        ("the origin", [&[4][..], &[0; 64]].concat()),
        ("infinity", vec![0]),
        ("infinity at full length", vec![0; 65]),
        ("no point", vec![]),
        ("coordinates beyond the field", [&[4][..], &[0xff; 64]].concat()),
        ("x alone", [&[4][..], x].concat()),
        ("a compressed point, even", [&[2][..], x].concat()),
        ("a compressed point, odd", [&[3][..], x].concat()),
        ("a hybrid point, even", [&[6][..], x, y].concat()),
        ("a hybrid point, odd", [&[7][..], x, y].concat()),
        ("bare coordinates", point[1..].to_vec()),
        ("a byte too few", point[..64].to_vec()),
        ("a byte too many", [&point[..], &[0]].concat()),
        ("an unknown form", [&[5][..], x, y].concat()),
    ] {
        case(what, ec(P256, &bytes), "KEY_REFUSED");
    }
    for (what, curve) in [
        ("P-384 with a point of P-256", P384),
        ("P-521 with a point of P-256", P521),
        ("P-224", "1.3.132.0.33"),
        ("P-192", "1.2.840.10045.3.1.1"),
        ("secp256k1", "1.3.132.0.10"),
        ("secp160r1", "1.3.132.0.8"),
        ("brainpoolP256r1", "1.3.36.3.3.2.8.1.1.7"),
        ("brainpoolP384r1", "1.3.36.3.3.2.8.1.1.11"),
        ("sect283r1", "1.3.132.0.17"),
        ("SM2", "1.2.156.10197.1.301"),
        ("Ed25519 as a curve", ED25519),
        ("RSA as a curve", RSA),
    ] {
        case(what, ec(curve, &point), "KEY_REFUSED");
    }
    for (what, parameters) in [
        ("no curve", vec![]),
        ("NULL as curve", NULL.to_vec()),
        ("a curve written out", sequence(&[&integer(&[1])])),
        ("a curve by number", integer(&[7])),
        ("two curves", [oid(P256), oid(P256)].concat()),
        ("a curve's name as text", der(0x0c, &[b"P-256"])),
    ] {
        case(what, spki(EC, &parameters, &point), "KEY_REFUSED");
    }
    for (what, algorithm) in [
        ("ECDH alone", "1.3.132.1.12"),
        ("ECMQV", "1.3.132.1.13"),
        ("DSA", "1.2.840.10040.4.1"),
        ("Diffie-Hellman", "1.2.840.113549.1.3.1"),
        ("X25519", "1.3.101.110"),
        ("X448", "1.3.101.111"),
        ("Ed448", "1.3.101.113"),
        ("GOST", "1.2.643.7.1.1.1.1"),
        ("ML-KEM-768", "2.16.840.1.101.3.4.4.2"),
        ("SLH-DSA", "2.16.840.1.101.3.4.3.20"),
        ("RSA for PSS alone", "1.2.840.113549.1.1.10"),
        ("RSA for OAEP alone", "1.2.840.113549.1.1.7"),
        ("a signature algorithm", "1.2.840.10045.4.3.2"),
        ("nothing known", "1.3.6.1.4.1.57264.1.1"),
    ] {
        case(what, spki(algorithm, &[], &point), "KEY_REFUSED");
    }
    for (what, algorithm, length) in [
        ("ML-DSA-44", "2.16.840.1.101.3.4.3.17", 1312),
        ("ML-DSA-65", "2.16.840.1.101.3.4.3.18", 1952),
        ("ML-DSA-87", "2.16.840.1.101.3.4.3.19", 2592),
    ] {
        case(what, spki(algorithm, &[], &vec![7; length]), "KEY_REFUSED");
    }
    for (what, bytes, reason) in [
        ("Ed25519, a byte too few", vec![7; 31], "KEY_REFUSED"),
        ("Ed25519, a byte too many", vec![7; 33], "KEY_REFUSED"),
        ("Ed25519, nothing", vec![], "KEY_REFUSED"),
        ("Ed25519, of order 1", [&[1][..], &[0; 31]].concat(), "KEY_WEAK"),
        ("Ed25519, of order 4", vec![0; 32], "KEY_WEAK"),
        ("Ed25519, of order 4, other sign", [&[0; 31][..], &[0x80]].concat(), "KEY_WEAK"),
    ] {
        case(what, spki(ED25519, &[], &bytes), reason);
    }
    case("Ed25519 with parameters", spki(ED25519, &NULL, &[0x58; 32]), "KEY_REFUSED");
    // What is no DER, or not all of it is.
    for unused in [1_u8, 7, 8, 255] {
        let key = der(3, &[&[unused], &point]);
        let algorithm = sequence(&[&oid(EC), &oid(P256)]);
        case("bits left over", sequence(&[&algorithm, &key]), "KEY_REFUSED");
    }
    for cut in [1, 2, 10, 25, 26, 27, 60, 90] {
        case("a key cut short", good[..cut].to_vec(), "KEY_REFUSED");
    }
    case("a byte after the key", [&good[..], &[0]].concat(), "KEY_REFUSED");
    case("a key after the key", good.repeat(2), "KEY_REFUSED");
    case("a member too many", sequence(&[&good[2..], &NULL]), "KEY_REFUSED");
    case("the length in another way", [&[0x30, 0x81], &good[1..]].concat(), "KEY_REFUSED");
    case("an end that is marked", [&[0x30, 0x80], &good[2..], &[0, 0]].concat(), "KEY_REFUSED");
    case("a set", [&[0x31], &good[1..]].concat(), "KEY_REFUSED");
    case("octets", der(4, &[&good]), "KEY_REFUSED");
    case("nothing", vec![], "KEY_REFUSED");
    case("64 KiB of zeros", vec![0; 64 << 10], "KEY_REFUSED");
    case("a length of 4 GiB", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "KEY_REFUSED");
    let mut texts = Vec::new();
    for label in [
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "RSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "CERTIFICATE",
        "CERTIFICATE REQUEST",
        "EC PARAMETERS",
        "SSH2 PUBLIC KEY",
        "PGP PUBLIC KEY BLOCK",
        "public key",
        "",
    ] {
        texts.push((format!("labelled {label:?}"), pem(label, &good)));
    }
    let whole = pem("PUBLIC KEY", &good);
    for (what, text) in [
        ("bare base64", STANDARD.encode(&good)),
        ("bare hexadecimal", hex::encode(&good)),
        ("an SSH key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here".to_owned()),
        ("a JWK", r#"{"kty":"EC","crv":"P-256"}"#.to_owned()),
        ("no end", whole.replace("-----END PUBLIC KEY-----", "")),
        ("no beginning", whole.replace("-----BEGIN PUBLIC KEY-----", "")),
        ("another end", whole.replace("END PUBLIC", "END PRIVATE")),
        ("headers", whole.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1)),
        ("a character of another alphabet", whole.replacen("ME", "-_", 1).replacen("MF", "-_", 1)),
        ("a digit missing", whole.replacen('M', "", 1)),
        ("NUL", "\u{0}".repeat(100)),
    ] {
        texts.push((what.to_owned(), text));
    }
    cases.extend(texts.into_iter().map(|(what, text)| (what, world.for_key(&text), "KEY_REFUSED")));
    assert!(cases.len() > 100, "{}", cases.len());
    world.all_keys_refused(&cases).await;
    // The builder builds rightly.
    world.accepted(&world.sign(&world.claims()), &world.for_key(&whole)).await;
}

#[tokio::test]
async fn rsa_keys_of_unusual_numbers_are_refused() {
    let world = World::new().await;
    let usual = [1, 0, 1];
    let mut cases = Vec::new();
    let mut case = |what: String, der: Vec<u8>, reason| {
        cases.push((what, world.for_key(&pem("PUBLIC KEY", &der)), reason));
    };
    for size in
        [8, 512, 768, 1024, 1536, 2040, 2047, 2049, 2056, 2560, 3071, 3073, 4095, 4104, 8192]
    {
        case(format!("{size} bits"), rsa(&modulus(size), &usual), "KEY_WEAK");
    }
    for exponent in [&[3][..], &[17], &[35], &[1, 0, 3], &[1, 0, 1, 1]] {
        case(format!("exponent {exponent:?}"), rsa(&modulus(2048), exponent), "KEY_WEAK");
    }
    // Nobody's: even, 1, or longer than any is.
    for exponent in [&[1][..], &[2], &[1, 0, 0], &[0xff; 8]] {
        case(format!("exponent {exponent:?}"), rsa(&modulus(2048), exponent), "KEY_REFUSED");
    }
    let times = |number: &[u8], factor: u32| {
        let (mut carry, mut product) = (0, vec![0; number.len()]);
        for (to, byte) in product.iter_mut().zip(number).rev() {
            let sum = u32::from(*byte) * factor + carry;
            (*to, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(carry, 0);
        product
    };
    for factor in [3_u32, 5, 7, 11, 13] {
        let mut part = modulus(2048);
        part[0] = (0xff / factor - 1) as u8; // 2048 bits again once multiplied
        case(format!("a multiple of {factor}"), rsa(&times(&part, factor), &usual), "KEY_WEAK");
    }
    let mut even = modulus(2048);
    *even.last_mut().unwrap() &= 0xfe;
    case("an even modulus".to_owned(), rsa(&even, &usual), "KEY_REFUSED");
    case("zero".to_owned(), rsa(&[0], &usual), "KEY_WEAK");
    case("exponent zero".to_owned(), rsa(&modulus(2048), &[0]), "KEY_REFUSED");
    let numbers =
        |modulus: &[u8], exponent: &[u8]| spki(RSA, &NULL, &sequence(&[modulus, exponent]));
    let (n, e) = (integer(&modulus(2048)), integer(&usual));
    let negative = der(2, &[&modulus(2048)]);
    let padded = der(2, &[&[0, 0], &modulus(2048)]);
    for (what, key) in [
        ("a negative modulus", numbers(&negative, &e)),
        ("a modulus with needless zeros", numbers(&padded, &e)),
        ("an exponent with needless zeros", numbers(&n, &der(2, &[&[0, 1, 0, 1]]))),
        ("a negative exponent", numbers(&n, &der(2, &[&[0xff]]))),
        ("no exponent", numbers(&n, &[])),
        ("a third number", numbers(&n, &[&e[..], &e].concat())),
        ("octets for numbers", numbers(&der(4, &[&[7; 256]]), &e)),
        ("an empty number", numbers(&der(2, &[]), &e)),
        ("a curve for parameters", spki(RSA, &oid(P256), &sequence(&[&n, &e]))),
    ] {
        case(what.to_owned(), key, "KEY_REFUSED");
    }
    for (what, der) in [
        ("PKCS#1 of 1024 bits", sequence(&[&integer(&modulus(1024)), &e])),
        ("PKCS#1 with exponent 3", sequence(&[&n, &integer(&[3])])),
    ] {
        cases.push((what.to_owned(), world.for_key(&pem("RSA PUBLIC KEY", &der)), "KEY_WEAK"));
    }
    for (what, der) in [
        ("PKCS#1 with more behind it", [sequence(&[&n, &e]), NULL.to_vec()].concat()),
        ("SubjectPublicKeyInfo called PKCS#1", rsa(&modulus(2048), &usual)),
        ("PKCS#1 cut short", n[..100].to_vec()),
    ] {
        cases.push((what.to_owned(), world.for_key(&pem("RSA PUBLIC KEY", &der)), "KEY_REFUSED"));
    }
    // A good one without its private key gets as far as the proof.
    let unproven = world.for_key(&pem("PUBLIC KEY", &rsa(&modulus(2048), &usual)));
    cases.push(("a stranger's".to_owned(), unproven, "PROOF_OF_POSSESSION"));
    assert!(cases.len() > 40, "{}", cases.len());
    world.all_keys_refused(&cases).await;
}

#[tokio::test]
async fn proofs_of_something_else_or_by_somebody_else_are_refused() {
    let world = World::new().await;
    let token = world.sign(&world.claims());
    let good = world.proof(EMAIL.as_bytes());
    let mut cases = Vec::new();
    let mut case = |what: &str, proof: &[u8]| {
        let mut request = world.request(EMAIL);
        request["publicKeyRequest"]["proofOfPossession"] = STANDARD.encode(proof).into();
        cases.push((what.to_owned(), request, "PROOF_OF_POSSESSION"));
    };
    for (what, message) in [
        ("nothing", String::new()),
        ("a line feed more", format!("{EMAIL}\n")),
        ("quotes", format!("\"{EMAIL}\"")),
        ("in capitals", EMAIL.to_uppercase()),
        ("the name alone", "you".to_owned()),
        ("another name", "me@example.com".to_owned()),
        ("the token", token.clone()),
        ("the issuer", world.issuer.clone()),
        ("the audience", "sigstore".to_owned()),
        ("the digest in hexadecimal", hex::encode(crate::world::sha256(EMAIL.as_bytes()))),
        ("name and subject", format!("{EMAIL}subject")),
    ] {
        case(what, &world.proof(message.as_bytes()));
    }
    case("its digest, hashed again", &world.proof(&crate::world::sha256(EMAIL.as_bytes())));
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    case("by another key", stranger.sign(&SystemRandom::new(), EMAIL.as_bytes()).unwrap().as_ref());
    for place in (0..good.len()).step_by(5) {
        let mut altered = good.clone();
        altered[place] ^= 1;
        case("a bit of it", &altered);
    }
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = hex::decode(ORDER).unwrap();
    let numbers = |r: &[u8], s: &[u8]| sequence(&[&integer(r), &integer(s)]);
    for (what, proof) in [
        ("zero and zero", numbers(&[0], &[0])),
        ("one and zero", numbers(&[1], &[0])),
        ("zero and one", numbers(&[0], &[1])),
        ("one and one", numbers(&[1], &[1])),
        ("the order twice", numbers(&order, &order)),
        ("the order and one", numbers(&order, &[1])),
        ("beyond every number", numbers(&[0xff; 40], &[0xff; 40])),
        ("negative numbers", sequence(&[&der(2, &[&[0xff]]), &der(2, &[&[0xff]])])),
        ("one number", sequence(&[&integer(&[1])])),
        ("three numbers", sequence(&[&integer(&[1]), &integer(&[1]), &integer(&[1])])),
        ("a byte after it", [&good[..], &[0]].concat()),
        ("a byte before it", [&[0], &good[..]].concat()),
        ("half of it", good[..good.len() / 2].to_vec()),
        ("it twice", good.repeat(2)),
        ("64 zeros", vec![0; 64]),
        ("64 ones", vec![0xff; 64]),
        ("63 bytes", vec![7; 63]),
        ("65 bytes", vec![7; 65]),
        ("one byte", vec![0]),
        ("RSA's length", vec![7; 256]),
        ("64 KiB", vec![7; 64 << 10]),
    ] {
        case(what, &proof);
    }
    assert!(cases.len() > 45, "{}", cases.len());
    world.all_keys_refused(&cases).await;
}

const WITH_SHA256: &str = "1.2.840.10045.4.3.2";

#[tokio::test]
async fn signing_requests_that_are_none_or_by_another_key_are_refused() {
    let world = World::new().await;
    let key = world.client.public_key().as_der().unwrap().as_ref().to_vec();
    let version = integer(&[0]);
    let name = sequence(&[&der(0x31, &[&sequence(&[&oid("2.5.4.3"), &der(0x0c, &[b"admin"])])])]);
    let none = der(0xa0, &[]);
    let info = |key: &[u8]| sequence(&[&version, &name, key, &none]);
    let good = world.signing_request(&info(&key), WITH_SHA256);
    let mut cases = Vec::new();
    let mut case =
        |what: &str, der: Vec<u8>, reason| cases.push((what.to_owned(), csr(&der), reason));
    const MALFORMED: &str = "SIGNING_REQUEST_MALFORMED";
    const PROOF: &str = "PROOF_OF_POSSESSION";
    // Others' keys and signatures.
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let theirs = stranger.public_key().as_der().unwrap().as_ref().to_vec();
    case("another's key", world.signing_request(&info(&theirs), WITH_SHA256), PROOF);
    let algorithm = sequence(&[&oid(WITH_SHA256)]);
    let signed = |signature: &[u8]| sequence(&[&info(&key), &algorithm, &bits(signature)]);
    let over = |message: &[u8]| signed(&world.proof(message));
    for (what, request) in [
        ("a signature of nothing", over(b"")),
        ("a signature of the name", over(EMAIL.as_bytes())),
        ("a signature of the key", over(&key)),
        ("no signature", signed(&[])),
        ("a signature of zeros", signed(&[0; 70])),
        ("a signature side by side", signed(&[7; 64])),
    ] {
        case(what, request, PROOF);
    }
    for (what, algorithm) in [
        ("SHA-1", "1.2.840.10045.4.1"),
        ("SHA-224", "1.2.840.10045.4.3.1"),
        ("SHA-384 said, SHA-256 used", "1.2.840.10045.4.3.3"),
        ("SHA-512 said, SHA-256 used", "1.2.840.10045.4.3.4"),
        ("RSA with SHA-256 said", "1.2.840.113549.1.1.11"),
        ("RSA with MD5 said", "1.2.840.113549.1.1.4"),
        ("RSA-PSS said", "1.2.840.113549.1.1.10"),
        ("Ed25519 said", ED25519),
        ("a key's algorithm said", EC),
        ("nothing known said", "1.3.6.1.4.1.57264.1.1"),
    ] {
        case(what, world.signing_request(&info(&key), algorithm), PROOF);
    }
    // Once signed, no byte of what is signed may change: here the name.
    let place = good.windows(5).position(|window| window == b"admin").unwrap();
    for letter in 0..5 {
        let mut altered = good.clone();
        altered[place + letter] ^= 0x20;
        case("another name", altered, PROOF);
    }
    for weak in [
        ("a point off its curve", ec(P256, &[&[4][..], &[7; 64]].concat()), "KEY_REFUSED"),
        ("secp256k1", ec("1.3.132.0.10", &world.point()), "KEY_REFUSED"),
        ("a compressed point", ec(P256, &[&[2], &world.point()[1..33]].concat()), "KEY_REFUSED"),
        ("RSA of 1024 bits", rsa(&modulus(1024), &[1, 0, 1]), "KEY_WEAK"),
        ("RSA with exponent 3", rsa(&modulus(2048), &[3]), "KEY_WEAK"),
        ("a point of small order", spki(ED25519, &[], &[0; 32]), "KEY_WEAK"),
        ("ML-DSA-65", spki("2.16.840.1.101.3.4.3.18", &[], &[7; 1952]), "KEY_REFUSED"),
    ] {
        case(weak.0, world.signing_request(&info(&weak.1), WITH_SHA256), weak.2);
    }
    // What is no request, or not all of it is.
    for cut in [0, 1, 2, 4, 20, good.len() / 2, good.len() - 1] {
        case("cut short", good[..cut].to_vec(), MALFORMED);
    }
    let unsigned = sequence(&[&info(&key), &algorithm]);
    let signature = world.proof(&info(&key));
    for (what, request) in [
        ("a byte after it", [&good[..], &[0]].concat()),
        ("it twice", good.repeat(2)),
        ("a member too many", sequence(&[&info(&key), &algorithm, &bits(&signature), &NULL])),
        ("no signature at all", unsigned),
        ("information alone", info(&key)),
        ("a key alone", key.clone()),
        ("a certificate", world.issuing.der().to_vec()),
        (
            "an end that is marked",
            [&[0x30, 0x80], &*info(&key), &algorithm, &bits(&signature), &[0, 0]].concat(),
        ),
        ("a length of 4 GiB", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("a signature in octets", sequence(&[&info(&key), &algorithm, &der(4, &[&signature])])),
        (
            "a signature with bits left over",
            sequence(&[&info(&key), &algorithm, &der(3, &[&[3], &signature])]),
        ),
        ("information in octets", world.signing_request(&der(4, &[&info(&key)]), WITH_SHA256)),
        ("no version", world.signing_request(&sequence(&[&name, &key]), WITH_SHA256)),
        (
            "a version beyond all",
            world.signing_request(&sequence(&[&integer(&[1, 0, 0]), &name, &key]), WITH_SHA256),
        ),
        ("no key", world.signing_request(&sequence(&[&version, &name]), WITH_SHA256)),
        (
            "two sets of attributes",
            world.signing_request(&sequence(&[&version, &name, &key, &none, &none]), WITH_SHA256),
        ),
        ("an algorithm by name", sequence(&[&info(&key), &der(0x0c, &[b"x"]), &bits(&signature)])),
        ("nested sequences", (0..2_000).fold(vec![], |inner, _| sequence(&[&inner]))),
        ("zeros", vec![0; 1000]),
    ] {
        case(what, request, MALFORMED);
    }
    let labelled =
        |label: &str| json!({ "certificateSigningRequest": STANDARD.encode(pem(label, &good)) });
    for label in ["CERTIFICATE", "PUBLIC KEY", "X509 CRL", "PKCS7", "certificate request"] {
        cases.push((format!("labelled {label:?}"), labelled(label), MALFORMED));
    }
    let bare = json!({ "certificateSigningRequest": STANDARD.encode(&good) });
    cases.push(("DER, not PEM".to_owned(), bare, MALFORMED));
    assert!(cases.len() > 60, "{}", cases.len());
    world.all_keys_refused(&cases).await;

    // Names and attributes are passed over, however many, large or deep they are.
    let token = world.sign(&world.claims());
    let nested = (0..2_000).fold(vec![], |inner, _| sequence(&[&inner]));
    let attribute = sequence(&[&oid("1.2.840.113549.1.9.14"), &der(0x31, &[&nested])]);
    for (what, attributes) in [
        ("none", vec![]),
        ("deep ones", attribute.clone()),
        ("a thousand", sequence(&[&oid("2.5.4.3"), &der(0x31, &[])]).repeat(1_000)),
        ("64 KiB", sequence(&[&oid("2.5.4.3"), &der(0x31, &[&der(4, &[&[7; 64 << 10]])])])),
        ("what is no DER", vec![0xff; 100]),
    ] {
        let info = sequence(&[&version, &name, &key, &der(0xa0, &[&attributes])]);
        let request = world.signing_request(&info, WITH_SHA256);
        let chain = world.accepted(&token, &csr(&request)).await;
        let leaf = Certificate::parse(&chain[0]).unwrap();
        assert_eq!((leaf.subject(), chain[0].len() < 2_000), (&[0x30, 0][..], true), "{what}");
    }
}
