//! OpenSSL as judge: chains in its strict mode, timestamps by `openssl ts`.

use crate::world::{EMAIL, World};
use countersign_ca::ceremony;
use countersign_ca::signer::Algorithm;
use countersign_verify::chain::TimestampAuthority;
use countersign_verify::timestamp;
use countersign_verify::trusted_root::Window;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

fn run(args: &[&str]) -> Output {
    Command::new("openssl").args(args).output().expect("openssl is needed here")
}

/// What OpenSSL prints; it must succeed.
pub(crate) fn openssl(args: &[&str]) -> String {
    String::from_utf8(openssl_bytes(args)).unwrap()
}

pub(crate) fn openssl_bytes(args: &[&str]) -> Vec<u8> {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    output.stdout
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn pem(der: &[u8]) -> String {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap()
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256Sha256, Algorithm::EcdsaP384Sha384];

#[tokio::test]
async fn openssl_accepts_our_chains_in_strict_mode() {
    for algorithm in ALGORITHMS {
        let now = Timestamp::now();
        let ceremony = ceremony::create_for(algorithm, "Test", now).unwrap();
        let other = ceremony::create_for(algorithm, "Test", now).unwrap();
        let timestamps = ceremony.timestamps.1.clone();
        let world = World::of(ceremony).await;
        let chain = world.accepted(&world.sign(&world.claims()), &world.request(EMAIL)).await;
        let folder = tempfile::tempdir().unwrap();
        let file = |name, der: &[u8]| write(folder.path(), name, pem(der));
        let (leaf, issuing, root) =
            (file("leaf", &chain[0]), file("issuing", &chain[1]), file("root", &chain[2]));
        let (other, timestamps) = (file("other", &other.root.1), file("tsa", &timestamps));
        let strict = ["verify", "-x509_strict", "-check_ss_sig"];
        for (purpose, trusted, subject, accepted) in [
            ("any", &root, &leaf, true),
            ("any", &other, &leaf, false),
            ("sslserver", &root, &leaf, false),
            ("timestampsign", &root, &timestamps, true),
            ("timestampsign", &root, &leaf, false),
        ] {
            let purpose =
                ["-purpose", purpose, "-CAfile", trusted, "-untrusted", &issuing, subject];
            let output = run(&[&strict[..], &purpose].concat());
            assert_eq!(output.status.success(), accepted, "{algorithm:?} {purpose:?}: {output:?}");
        }
    }
}

async fn stamp(world: &World, media_type: &str, query: Vec<u8>) -> (u16, Vec<u8>) {
    let url = format!("{}/api/v1/timestamp", world.url);
    let request = world.http.post(url).header("content-type", media_type).body(query);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn openssl_accepts_our_timestamps() {
    for algorithm in ALGORITHMS {
        let ceremony = ceremony::create_for(algorithm, "Test", Timestamp::now()).unwrap();
        let (leaf, root) = (ceremony.timestamps.1.clone(), ceremony.root.1.clone());
        let world = World::of(ceremony).await;
        let folder = tempfile::tempdir().unwrap();
        let data = write(folder.path(), "data", "hello\n");
        let other = write(folder.path(), "other", "hullo\n");
        let (leaf_pem, root_pem) =
            (write(folder.path(), "leaf", pem(&leaf)), write(folder.path(), "root", pem(&root)));
        for hash in ["-sha256", "-sha384", "-sha512"] {
            for options in [&["-cert"][..], &[], &["-no_nonce"], &["-cert", "-no_nonce"]] {
                let query =
                    openssl_bytes(&[&["ts", "-query", "-data", &data, hash], options].concat());
                let (status, reply) =
                    stamp(&world, "application/timestamp-query", query.clone()).await;
                assert_eq!(status, 200);
                let with_certificate = reply.windows(leaf.len()).any(|window| window == leaf);
                assert_eq!(with_certificate, options.contains(&"-cert"));
                let query = write(folder.path(), "query", query);
                let reply_file = write(folder.path(), "reply", &reply);
                let check = ["ts", "-verify", "-in", &reply_file, "-CAfile", &root_pem];
                let check = [&check[..], &["-untrusted", &leaf_pem]].concat();
                openssl(&[&check[..], &["-queryfile", &query]].concat());
                openssl(&[&check[..], &["-data", &data]].concat());
                let refused = run(&[&check[..], &["-data", &other]].concat());
                assert!(!refused.status.success(), "another file: {refused:?}");
                let text = openssl(&["ts", "-reply", "-in", &reply_file, "-text"]);
                for line in [
                    "Status: Granted.",
                    "Version: 1",
                    "Policy OID: 1.3.6.1.4.1.57264.2",
                    "Accuracy: 0x01 seconds, unspecified millis, unspecified micros",
                    "Ordering: no",
                    "TSA: DirName:",
                ] {
                    assert!(text.contains(line), "{line}: {text}");
                }
                let unnamed = text.contains("Nonce: unspecified");
                assert_eq!(unnamed, options.contains(&"-no_nonce"), "{text}");
                let any_time = Window { start: None, end: None };
                let ours = TimestampAuthority::new(String::new(), vec![&leaf, &root], any_time);
                timestamp::verify(&reply, b"hello\n", &[ours.unwrap()]).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn queries_that_must_not_be_stamped_are_refused() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "data", "hello\n");
    let query = |options: &[&str]| {
        openssl_bytes(&[&["ts", "-query", "-data", &data][..], options].concat())
    };
    let good = query(&["-sha256", "-no_nonce"]);
    let extended = {
        // [0] { SEQUENCE { OID 1.2.3.4, OCTET STRING { NULL } } } at the end of the request
        let extension = [0xa0, 0x0b, 0x30, 9, 6, 3, 0x2a, 3, 4, 4, 2, 5, 0];
        let mut bytes = [&good[..], &extension].concat();
        bytes[1] += u8::try_from(extension.len()).unwrap();
        bytes
    };
    let version = good.iter().enumerate().map(|(place, byte)| if place == 4 { 2 } else { *byte });
    let digest = &openssl(&["dgst", "-sha256", "-r", &data])[..64];
    let digest = countersign_verify::encoding::from_hex(digest).unwrap();
    let json = |change: fn(&mut Value)| {
        let mut body = json!({ "artifactHash": countersign_verify::encoding::base64(&digest),
            "hashAlgorithm": "sha256" });
        change(&mut body);
        body.to_string().into_bytes()
    };
    let (der, text) = ("application/timestamp-query", "application/json");
    let der_faults = [
        ("SHA-1", "unrecognized or unsupported algorithm identifier"),
        ("another policy", "the requested TSA policy is not supported by the TSA"),
        ("an extension", "the requested extension is not supported by the TSA"),
        ("version 2", "the data submitted has the wrong format"),
        ("a byte more", "the data submitted has the wrong format"),
        ("a byte less", "the data submitted has the wrong format"),
        ("nothing", "the data submitted has the wrong format"),
        ("a digest too short", "transaction not permitted or supported"),
    ];
    let mut told = 0;
    // A byte less in the OCTET STRING of 32, and in the two SEQUENCEs that hold it.
    let mut short = good.clone();
    assert_eq!((short[1], short[6], short[23]), (0x36, 0x31, 0x20));
    for length in [1, 6, 23] {
        short[length] -= 1;
    }
    short.pop();
    for (what, media_type, body, expected) in [
        ("good", der, good.clone(), 200),
        ("a digest too short", der, short, 400),
        ("good, with a parameter", "Application/JSON; charset=utf-8", json(|_| ()), 200),
        ("null members", text, json(|body| body["tsaPolicyOID"] = Value::Null), 200),
        ("a nonce", text, json(|body| body["nonce"] = 200.into()), 200),
        ("our policy", der, query(&["-sha256", "-tspolicy", "1.3.6.1.4.1.57264.2"]), 200),
        ("SHA-1", der, query(&["-sha1"]), 400),
        ("another policy", der, query(&["-sha256", "-tspolicy", "1.2.3"]), 400),
        ("an extension", der, extended, 400),
        ("version 2", der, version.collect(), 400),
        ("a byte more", der, [&good[..], &[0]].concat(), 400),
        ("a byte less", der, good[..good.len() - 1].to_vec(), 400),
        ("nothing", der, Vec::new(), 400),
        ("a form as another", text, good.clone(), 400),
        ("no form", "text/plain", good, 415),
        ("SHA-1", text, json(|body| body["hashAlgorithm"] = "sha1".into()), 400),
        ("a longer hash", text, json(|body| body["hashAlgorithm"] = "sha512".into()), 400),
        ("another policy", text, json(|body| body["tsaPolicyOID"] = "1.2.3".into()), 400),
        ("a negative nonce", text, json(|body| body["nonce"] = (-1).into()), 400),
        ("too much", der, vec![0; 70_000], 400),
    ] {
        let (status, body) = stamp(&world, media_type, body).await;
        assert_eq!(status, expected, "{what}, {media_type}");
        if let Some((_, fault)) =
            der_faults.iter().find(|(case, _)| *case == what && media_type == der)
        {
            let reply = write(folder.path(), "refusal", &body);
            let text = openssl(&["ts", "-reply", "-in", &reply, "-text"]);
            assert!(text.contains("Status: Rejected.") && text.contains(fault), "{what}: {text}");
            told += 1;
        } else if status != 200 {
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(body["message"].as_str().unwrap().len() > 15, "{what}: {body}");
        }
    }
    assert_eq!(told, der_faults.len());
    let chain = world.http.get(format!("{}/api/v1/timestamp/certchain", world.url));
    let chain = chain.send().await.unwrap().text().await.unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
}

#[tokio::test]
async fn while_the_clock_is_wrong_nothing_is_issued_or_stamped_and_both_recover() {
    let world = World::new().await;
    let (token, request) = (world.sign(&world.claims()), world.request(EMAIL));
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "data", "hello\n");
    let query = openssl_bytes(&["ts", "-query", "-data", &data, "-sha256"]);
    let der = "application/timestamp-query";
    assert_eq!(stamp(&world, der, query.clone()).await.0, 200);
    world.accepted(&token, &request).await;
    // Set back by an hour: tokens seem to come from the future, and a stamp would be before the last one.
    world.wrong_by.store(-3600, Ordering::Relaxed);
    world.refused("set back", &token, &request, 400, "TOKEN_NOT_YET_VALID").await;
    let (status, body) = stamp(&world, der, query.clone()).await;
    let reply = write(folder.path(), "refusal", &body);
    let text = openssl(&["ts", "-reply", "-in", &reply, "-text"]);
    assert!(
        text.contains("Status: Rejected.") && text.contains("time source is not available"),
        "{text}"
    );
    assert_eq!(status, 503);
    // Set forward by twenty years: no token is valid any more, and no certificate of ours.
    world.wrong_by.store(86_400 * 365 * 20, Ordering::Relaxed);
    world.refused("set forward", &token, &request, 400, "TOKEN_EXPIRED").await;
    assert_eq!(stamp(&world, der, query.clone()).await.0, 503);
    world.wrong_by.store(0, Ordering::Relaxed);
    world.accepted(&token, &request).await;
    assert_eq!(stamp(&world, der, query).await.0, 200);
}
