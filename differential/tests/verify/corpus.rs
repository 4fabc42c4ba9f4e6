//! What is verified: genuine bundles of every kind, and bundles that are wrong in meaning although
//! everything in them is signed.

use countersign_testkit::{Instance, Named, Receipt, Shape, Signer};
use countersign_verify::bundle::LogEntry;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::entry::{Verifier, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use countersign_verify::merkle::Hash;
use jiff::SignedDuration;
use serde_json::{Value, json};

pub(crate) const ARTIFACT: &[u8] = b"the artifact";
pub(crate) const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const URI: &str = "https://git.example.test/acme/widget";
const ISSUER: &str = "https://issuer.example.test";

/// A genuine bundle and its like.
pub(crate) struct Seed {
    pub(crate) name: &'static str,
    pub(crate) bundle: Value,
    /// By another signer of the same instance, over the same artifact.
    pub(crate) sibling: Value,
    /// Of another instance.
    pub(crate) stranger: Value,
}

/// Makes a bundle.
pub(crate) type Make = Box<dyn Fn(&Instance, &Signer) -> Value>;

/// Every kind of bundle that both verifiers know: cosign's own is older than the format.
pub(crate) fn kinds() -> Vec<(&'static str, Make)> {
    let shapes = Shape::ALL.iter().filter(|shape| !shape.is_legacy());
    let mut kinds: Vec<(&'static str, Make)> = Vec::new();
    for shape in shapes {
        let make = |instance: &Instance, signer: &Signer| instance.make(signer, ARTIFACT, shape);
        kinds.push((shape.name, Box::new(make)));
    }
    let two_stamps = |instance: &Instance, signer: &Signer| {
        let bundle = value(&instance.sign(signer, ARTIFACT));
        let signature = signature(&bundle);
        let later = instance.stamp(&signature, |stamp| {
            stamp.time += SignedDuration::from_mins(2);
            stamp.nonce = true;
        });
        with_stamps(&bundle, &[instance.timestamp(&signature), later])
    };
    kinds.push(("two stamps, Rekor v2", Box::new(two_stamps)));
    kinds
}

pub(crate) fn certify(instance: &Instance) -> Signer {
    instance.certify(URI, ISSUER)
}

pub(crate) fn seed(name: &'static str, make: &Make, instance: &Instance, other: &Instance) -> Seed {
    Seed {
        name,
        bundle: make(instance, &certify(instance)),
        sibling: make(instance, &certify(instance)),
        stranger: make(other, &certify(other)),
    }
}

fn value(bundle: &countersign_verify::Bundle) -> Value {
    serde_json::from_str(&bundle.to_json()).unwrap()
}

pub(crate) fn object<'v>(
    value: &'v mut Value,
    path: &str,
) -> &'v mut serde_json::Map<String, Value> {
    value.pointer_mut(path).unwrap().as_object_mut().unwrap()
}

/// The same bundle in a generation with chains; with the root in it, or without.
fn earlier(instance: &Instance, bundle: &Value, generation: &str, root: bool) -> Value {
    let mut bundle = bundle.clone();
    bundle["mediaType"] =
        format!("application/vnd.dev.sigstore.bundle+json;version={generation}").into();
    let material = object(&mut bundle, "/verificationMaterial");
    let mut chain = vec![material.remove("certificate").unwrap()];
    chain.push(json!({ "rawBytes": base64(&instance.issuer_certificate()) }));
    if root {
        chain.push(json!({ "rawBytes": base64(&instance.root_certificate()) }));
    }
    material.insert("x509CertificateChain".into(), json!({ "certificates": chain }));
    bundle
}

pub(crate) fn signature(bundle: &Value) -> Vec<u8> {
    let message = bundle.pointer("/messageSignature/signature");
    let envelope = || bundle.pointer("/dsseEnvelope/signatures/0/sig");
    from_base64(message.or_else(envelope).unwrap().as_str().unwrap()).unwrap()
}

fn with_stamps(bundle: &Value, stamps: &[Vec<u8>]) -> Value {
    let stamps: Vec<_> =
        stamps.iter().map(|stamp| json!({ "signedTimestamp": base64(stamp) })).collect();
    let mut bundle = bundle.clone();
    object(&mut bundle, "/verificationMaterial")
        .insert("timestampVerificationData".into(), json!({ "rfc3161Timestamps": stamps }));
    bundle
}

fn stamped(
    instance: &Instance,
    bundle: &Value,
    change: impl FnOnce(&mut countersign_testkit::Stamp),
) -> Value {
    with_stamps(bundle, &[instance.stamp(&signature(bundle), change)])
}

/// The bundle with another first entry.
pub(crate) fn with_entry(bundle: &Value, entry: &LogEntry) -> Value {
    let mut bundle = bundle.clone();
    *bundle.pointer_mut(ENTRY).unwrap() = serde_json::from_str(&entry.to_json()).unwrap();
    bundle
}

fn body(bundle: &Value) -> Vec<u8> {
    let text = bundle.pointer(&format!("{ENTRY}/canonicalizedBody")).unwrap();
    from_base64(text.as_str().unwrap()).unwrap()
}

/// The bundle with its body replaced, and logged so by a log of the same generation.
pub(crate) fn logged_again(instance: &Instance, bundle: &Value, body: Vec<u8>) -> Value {
    let text = |name: &str| {
        bundle.pointer(&format!("{ENTRY}/kindVersion/{name}")).unwrap().as_str().unwrap().to_owned()
    };
    let (kind, version) = (text("kind"), text("version"));
    let v1 = [("hashedrekord", "0.0.1"), ("dsse", "0.0.1"), ("intoto", "0.0.2")];
    let v1 = v1.contains(&(kind.as_str(), version.as_str()));
    let mut entry = if v1 { instance.log_v1(body) } else { instance.log(body) };
    (entry.kind, entry.version) = (kind, version);
    if bundle.pointer(&format!("{ENTRY}/inclusionPromise")).is_none() {
        (entry.promise, entry.integrated_time) = (None, 0);
    }
    with_entry(bundle, &entry)
}

/// Bundles in which every signature holds, and one statement is wrong, or unusual. By name.
pub(crate) fn in_meaning(instance: &Instance, other: &Instance) -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    heads(instance, other, &mut cases);
    entries(instance, other, &mut cases);
    stamps(instance, other, &mut cases);
    certificates(instance, other, &mut cases);
    envelopes(instance, &mut cases);
    keys(instance, &mut cases);
    cases
}

/// Genuine bundles by keys other than on P-256.
fn keys(instance: &Instance, cases: &mut Vec<(String, Value)>) {
    let digests = [
        KeyDetails::EcdsaP384Sha384,
        KeyDetails::EcdsaP384Sha256,
        KeyDetails::EcdsaP521Sha512,
        KeyDetails::Rsa2048Sha256,
        KeyDetails::RsaPss2048Sha256,
        KeyDetails::Ed25519Ph,
    ];
    for shape in Shape::ALL.iter().filter(|shape| shape.name.starts_with("0.3 ")) {
        // A pure Ed25519 signature has no digest for a hashedrekord to name.
        let pure = shape.entries.iter().all(|&(kind, _)| kind != "hashedrekord");
        for details in digests.into_iter().chain(pure.then_some(KeyDetails::Ed25519)) {
            let signer = instance.certify_key(URI, ISSUER, details);
            let name = format!("key/{details:?}/{}", shape.name);
            cases.push((name, instance.make(&signer, ARTIFACT, shape)));
        }
    }
}

fn heads(instance: &Instance, other: &Instance, cases: &mut Vec<(String, Value)>) {
    type Change = fn(&mut countersign_testkit::Head);
    let changes: [(&str, Change); 14] = [
        ("as it is", |_| {}),
        ("origin of another log", |head| head.origin = "other.example.test".into()),
        ("origin with a suffix", |head| head.origin += " - 42"),
        ("origin in capitals", |head| head.origin = head.origin.to_uppercase()),
        ("signature under another name", |head| head.name = "other.example.test".into()),
        ("origin and name of another log", |head| {
            head.name = "other.example.test".into();
            head.origin = head.origin.replace("log.example.test", "other.example.test");
            head.origin = head.origin.replace("rekor.example.test", "other.example.test");
        }),
        ("origin that is its name alone", |head| head.origin = head.name.clone()),
        ("size one more", |head| head.size += 1),
        ("size one less", |head| head.size -= 1),
        ("size 0", |head| head.size = 0),
        ("size that takes other proofs", |head| head.size = 1 << 40),
        ("root of another tree", |head| head.root = Hash::of(b"other")),
        ("extension lines", |head| head.extensions = "Timestamp: 1\nanother line\n".into()),
        ("integrated a day later", |head| head.integrated += 24 * 3600),
    ];
    let signer = certify(instance);
    for (kind, v1, make) in [
        ("v2", false, instance.sign(&signer, ARTIFACT)),
        ("v1", true, instance.sign_v1(&signer, ARTIFACT)),
    ] {
        let bundle = value(&make);
        for (name, change) in changes {
            let log = if v1 { Instance::log_v1_with } else { log_v2_with };
            let altered = with_entry(&bundle, &log(instance, body(&bundle), change));
            cases.push((format!("head/{kind}/{name}"), altered));
        }
        let elsewhere = if v1 { other.log_v1(body(&bundle)) } else { other.log(body(&bundle)) };
        cases.push((
            format!("head/{kind}/log of another instance"),
            with_entry(&bundle, &elsewhere),
        ));
        let mut posing = elsewhere.clone();
        posing.log_id = make.entries()[0].log_id;
        cases.push((
            format!("head/{kind}/log of another instance under this ID"),
            with_entry(&bundle, &posing),
        ));
        let crossed = if v1 { instance.log(body(&bundle)) } else { instance.log_v1(body(&bundle)) };
        let mut named = crossed.clone();
        (named.kind, named.version) =
            (make.entries()[0].kind.clone(), make.entries()[0].version.clone());
        cases.push((
            format!("head/{kind}/the log of the other generation"),
            with_entry(&bundle, &crossed),
        ));
        cases.push((
            format!("head/{kind}/the log of the other generation, kind kept"),
            with_entry(&bundle, &named),
        ));
    }
}

fn log_v2_with(
    instance: &Instance,
    body: Vec<u8>,
    change: fn(&mut countersign_testkit::Head),
) -> LogEntry {
    instance.log_with(body, change)
}

fn entries(instance: &Instance, other: &Instance, cases: &mut Vec<(String, Value)>) {
    let (signer, second) = (certify(instance), certify(instance));
    let bundle = value(&instance.sign(&signer, ARTIFACT));
    let signed = signature(&bundle);
    let entry = |digest: &[u8], signature: &[u8], certificate: &[u8], details| {
        let verifier = Verifier::Certificate(certificate);
        let sha256 = HashAlgorithm::Sha256;
        instance.log(hashedrekord_v2_body(sha256, digest, signature, verifier, details))
    };
    let digest = HashAlgorithm::Sha256.digest(ARTIFACT);
    let p256 = KeyDetails::EcdsaP256Sha256;
    let foreign = HashAlgorithm::Sha256.digest(b"another artifact");
    let genuine = entry(&digest, &signed, signer.certificate(), p256);
    let mut push = |name: &str, bundle: Value| cases.push((format!("entry/{name}"), bundle));
    push("as it is", with_entry(&bundle, &genuine));
    push(
        "another artifact",
        with_entry(&bundle, &entry(&foreign, &signed, signer.certificate(), p256)),
    );
    push(
        "another signature",
        with_entry(&bundle, &entry(&digest, &second.sign(ARTIFACT), signer.certificate(), p256)),
    );
    push(
        "another certificate",
        with_entry(&bundle, &entry(&digest, &signed, second.certificate(), p256)),
    );
    push(
        "other key details",
        with_entry(
            &bundle,
            &entry(&digest, &signed, signer.certificate(), KeyDetails::EcdsaP384Sha384),
        ),
    );
    let spki = countersign_verify::certificate::Certificate::parse(signer.certificate()).unwrap();
    let by_key = hashedrekord_v2_body(
        HashAlgorithm::Sha256,
        &digest,
        &signed,
        Verifier::PublicKey(spki.spki()),
        p256,
    );
    push("the key instead of the certificate", with_entry(&bundle, &instance.log(by_key)));
    let both = |second: &LogEntry| {
        let mut bundle = bundle.clone();
        let list = bundle.pointer_mut("/verificationMaterial/tlogEntries").unwrap();
        list.as_array_mut().unwrap().push(serde_json::from_str(&second.to_json()).unwrap());
        bundle
    };
    push("two, the same", both(&genuine));
    push(
        "two, one of another artifact",
        both(&entry(&foreign, &signed, signer.certificate(), p256)),
    );
    let elsewhere = other.log(genuine.body.clone());
    push("two, one of another instance", both(&elsewhere));
    let mut damaged = both(&elsewhere);
    damaged["verificationMaterial"]["tlogEntries"][1]["canonicalizedBody"] = "e30=".into();
    push("two, one of another instance and damaged", damaged);
    let v1 = value(&instance.sign_v1(&signer, ARTIFACT));
    let mut v1_entry: Value = v1.pointer(ENTRY).unwrap().clone();
    let mut mixed = bundle.clone();
    let list = mixed.pointer_mut("/verificationMaterial/tlogEntries").unwrap();
    list.as_array_mut().unwrap().push(v1_entry.clone());
    push("two, the v1 one of another signature", mixed);
    object(&mut v1_entry, "").remove("inclusionPromise");
    let mut unpromised = with_stamps(&v1, &[instance.timestamp(&signature(&v1))]);
    *unpromised.pointer_mut(ENTRY).unwrap() = v1_entry;
    push("v1 without promise, with a stamp", unpromised.clone());
    unpromised["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "0".into();
    push("v1 without promise and time, with a stamp", unpromised);
    let mut white = genuine.body.clone();
    white.push(b'\n');
    push("body with a line break", with_entry(&bundle, &instance.log(white)));
}

fn stamps(instance: &Instance, other: &Instance, cases: &mut Vec<(String, Value)>) {
    type Change = fn(&mut countersign_testkit::Stamp);
    let changes: [(&str, Change); 14] = [
        ("as it is", |_| {}),
        ("with certificates", |stamp| stamp.certificates = true),
        ("before the certificate", |stamp| stamp.time -= SignedDuration::from_mins(2)),
        ("when the certificate begins", |stamp| stamp.time -= SignedDuration::from_mins(1)),
        ("when the certificate ends", |stamp| stamp.time += SignedDuration::from_mins(9)),
        ("a second after the certificate", |stamp| stamp.time += SignedDuration::from_secs(541)),
        ("a year before the authority", |stamp| stamp.time -= SignedDuration::from_hours(24 * 365)),
        ("of something else", |stamp| stamp.other_imprint = true),
        ("without the certificate's name", |stamp| stamp.names = Named::Nothing),
        ("over other content", |stamp| stamp.other_content = true),
        ("granted with modifications", |stamp| stamp.status = 1),
        ("rejected", |stamp| stamp.status = 2),
        ("waiting", |stamp| stamp.status = 3),
        ("with a nonce", |stamp| stamp.nonce = true),
    ];
    let bundle = value(&instance.sign(&certify(instance), ARTIFACT));
    let signed = signature(&bundle);
    for (name, change) in changes {
        cases.push((format!("stamp/{name}"), stamped(instance, &bundle, change)));
    }
    let mut push = |name: &str, bundle: Value| cases.push((format!("stamp/{name}"), bundle));
    let (own, foreign) = (instance.timestamp(&signed), other.timestamp(&signed));
    push("none", with_stamps(&bundle, &[]));
    push("of another instance", with_stamps(&bundle, std::slice::from_ref(&foreign)));
    push("own, then of another instance", with_stamps(&bundle, &[own.clone(), foreign.clone()]));
    push("of another instance, then own", with_stamps(&bundle, &[foreign, own.clone()]));
    push("twice the same", with_stamps(&bundle, &[own.clone(), own.clone()]));
    let late = instance.stamp(&signed, |stamp| stamp.time += SignedDuration::from_hours(1));
    push("one good, one after the certificate", with_stamps(&bundle, &[own.clone(), late]));
    push("over another signature", with_stamps(&bundle, &[instance.timestamp(b"other")]));
    push("cut short", with_stamps(&bundle, &[own[..own.len() - 1].to_vec()]));
    push("with a byte more", with_stamps(&bundle, &[[&own[..], &[0]].concat()]));
    // PKIStatusInfo and the SEQUENCE's header come before the token.
    let token = own.windows(2).skip(1).position(|pair| pair == [0x30, 0x82]).unwrap() + 1;
    push("the token alone", with_stamps(&bundle, &[own[token..].to_vec()]));
    let many: Vec<_> = (0..40)
        .map(|second| {
            instance.stamp(&signed, |stamp| stamp.time += SignedDuration::from_secs(second))
        })
        .collect();
    push("forty", with_stamps(&bundle, &many));
    let v1 = value(&instance.sign_v1(&certify(instance), ARTIFACT));
    push(
        "of another instance beside a promise",
        with_stamps(&v1, &[other.timestamp(&signature(&v1))]),
    );
}

fn certificates(instance: &Instance, other: &Instance, cases: &mut Vec<(String, Value)>) {
    use Receipt::*;
    type Change = Box<dyn FnOnce(&mut countersign_testkit::Leaf)>;
    fn receipts(list: &'static [Receipt]) -> Change {
        Box::new(|leaf| leaf.receipts = list.to_vec())
    }
    let changes: Vec<(&str, Change)> = vec![
        ("as it is", Box::new(|_| {})),
        ("no receipt", receipts(&[])),
        ("receipt of another log", receipts(&[OtherLog])),
        ("forged receipt", receipts(&[Forged])),
        ("receipt for another issuer", receipts(&[OtherIssuer])),
        ("receipt for another certificate", receipts(&[OtherCertificate])),
        ("receipt before the log's key", receipts(&[Hours(2)])),
        ("receipt from the future", receipts(&[Hours(-240_000)])),
        ("receipt without index", receipts(&[WithoutIndex])),
        ("two receipts", receipts(&[Genuine, WithoutIndex])),
        ("the same receipt twice", receipts(&[Genuine, Genuine])),
        ("a receipt and one of another log", receipts(&[Genuine, OtherLog])),
        ("a receipt of another log and one", receipts(&[OtherLog, Genuine])),
        ("a receipt and a forged one", receipts(&[Genuine, Forged])),
        (
            "no code signing",
            Box::new(|leaf| leaf.purposes = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        ("no purpose", Box::new(|leaf| leaf.purposes.clear())),
        ("any purpose", Box::new(|leaf| leaf.purposes = vec![rcgen::ExtendedKeyUsagePurpose::Any])),
        (
            "two purposes",
            Box::new(|leaf| leaf.purposes.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth)),
        ),
        ("no usage", Box::new(|leaf| leaf.usages.clear())),
        (
            "another usage",
            Box::new(|leaf| leaf.usages = vec![rcgen::KeyUsagePurpose::KeyEncipherment]),
        ),
        ("usage of a CA", Box::new(|leaf| leaf.usages.push(rcgen::KeyUsagePurpose::KeyCertSign))),
        ("a CA's", Box::new(|leaf| leaf.authority = true)),
        ("no name", Box::new(|leaf| leaf.uris.clear())),
        ("two names", Box::new(|leaf| leaf.uris.push("https://git.example.test/other".into()))),
        (
            "begins after the stamp",
            Box::new(|leaf| leaf.not_before += SignedDuration::from_mins(2)),
        ),
        ("ends before the stamp", Box::new(|leaf| leaf.seconds = 30)),
        (
            "begins before its CA",
            Box::new(|leaf| {
                leaf.not_before -= SignedDuration::from_hours(20);
                leaf.seconds = 80_000
            }),
        ),
        ("for ten years", Box::new(|leaf| leaf.seconds = 315_360_000)),
    ];
    for (name, change) in changes {
        let signer = instance.certify_with(URI, ISSUER, change);
        // The verifier's own constructor may refuse the certificate; the bundle is put together by hand.
        cases.push((format!("certificate/{name}"), value(&instance.sign(&signer, ARTIFACT))));
    }
    let mut push = |name: &str, bundle: Value| cases.push((format!("certificate/{name}"), bundle));
    let foreign = certify(other);
    push("of another CA", value(&instance.sign(&foreign, ARTIFACT)));
    push("of another CA, v1", value(&instance.sign_v1(&foreign, ARTIFACT)));
    let v1 = value(&instance.sign_v1(&foreign, ARTIFACT));
    push("of another CA with its chain", earlier(other, &v1, "0.2", false));
    push("of another CA with our chain", earlier(instance, &v1, "0.2", false));
    let own = value(&instance.sign_v1(&certify(instance), ARTIFACT));
    push("with the chain of another CA", earlier(other, &own, "0.2", false));
    push("with its root in the chain", earlier(instance, &own, "0.2", true));
    push("in 0.3 as a chain", {
        let mut bundle = earlier(instance, &own, "0.2", false);
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
        bundle
    });
    for generation in ["0.1", "0.2"] {
        let mut bundle = own.clone();
        bundle["mediaType"] =
            format!("application/vnd.dev.sigstore.bundle+json;version={generation}").into();
        push(&format!("in {generation} without chain"), bundle);
    }
    let mut keyed = own.clone();
    object(&mut keyed, "/verificationMaterial").remove("certificate");
    object(&mut keyed, "/verificationMaterial").insert("publicKey".into(), json!({ "hint": "x" }));
    push("a key's hint in its place", keyed);
}

fn envelopes(instance: &Instance, cases: &mut Vec<(String, Value)>) {
    let digest = countersign_verify::encoding::hex(&HashAlgorithm::Sha256.digest(ARTIFACT));
    let subject = json!({ "name": "artifact", "digest": { "sha256": digest } });
    let foreign = json!({ "name": "artifact", "digest": { "sha256": "0".repeat(64) } });
    let sha512 = countersign_verify::encoding::hex(&HashAlgorithm::Sha512.digest(ARTIFACT));
    let statement = |subjects: Value| {
        json!({ "_type": "https://in-toto.io/Statement/v1", "subject": subjects,
            "predicateType": "https://example.test/predicate", "predicate": {} })
    };
    let mut list = vec![
        ("as it is", statement(json!([subject]))),
        ("two subjects", statement(json!([foreign, subject]))),
        ("another subject", statement(json!([foreign]))),
        ("no subject", statement(json!([]))),
        (
            "subject in capitals",
            statement(json!([{ "name": "a", "digest": { "sha256": digest.to_uppercase() } }])),
        ),
        ("subject without name", statement(json!([{ "digest": { "sha256": digest } }]))),
        ("subject without digest", statement(json!([{ "name": "a" }]))),
        ("subject with an empty digest", statement(json!([{ "name": "a", "digest": {} }]))),
        ("subject by SHA-512", statement(json!([{ "name": "a", "digest": { "sha512": sha512 } }]))),
        (
            "subject by both",
            statement(json!([{ "name": "a", "digest": { "sha256": digest, "sha512": sha512 } }])),
        ),
        (
            "subject by both, one wrong",
            statement(
                json!([{ "name": "a", "digest": { "sha256": digest, "sha512": "0".repeat(128) } }]),
            ),
        ),
        (
            "subject by both, the other wrong",
            statement(
                json!([{ "name": "a", "digest": { "sha256": "0".repeat(64), "sha512": sha512 } }]),
            ),
        ),
        (
            "subject with an unknown digest beside",
            statement(
                json!([{ "name": "a", "digest": { "sha256": digest, "gitCommit": "0".repeat(40) } }]),
            ),
        ),
        (
            "subject short",
            statement(json!([{ "name": "a", "digest": { "sha256": &digest[..62] } }])),
        ),
        (
            "subject with more members",
            statement(
                json!([{ "name": "a", "uri": "https://example.test", "digest": { "sha256": digest } }]),
            ),
        ),
        ("a second subject without digest", statement(json!([subject, { "name": "b" }]))),
        ("a list", json!([statement(json!([subject]))])),
        ("a number", json!(1)),
    ];
    let edited = |edit: fn(&mut serde_json::Map<String, Value>)| {
        let mut statement = statement(json!([subject]));
        edit(object(&mut statement, ""));
        statement
    };
    list.push((
        "of version 0.1",
        edited(|s| drop(s.insert("_type".into(), "https://in-toto.io/Statement/v0.1".into()))),
    ));
    list.push((
        "of version 2",
        edited(|s| drop(s.insert("_type".into(), "https://in-toto.io/Statement/v2".into()))),
    ));
    list.push(("without type", edited(|s| drop(s.remove("_type")))));
    list.push(("without predicate type", edited(|s| drop(s.remove("predicateType")))));
    list.push(("without predicate", edited(|s| drop(s.remove("predicate")))));
    list.push(("with more members", edited(|s| drop(s.insert("more".into(), 1.into())))));
    list.push(("predicate null", edited(|s| drop(s.insert("predicate".into(), Value::Null)))));
    list.push(("predicate a text", edited(|s| drop(s.insert("predicate".into(), "text".into())))));
    for (name, statement) in list {
        let payload = statement.to_string().into_bytes();
        cases.push((
            format!("statement/{name}"),
            enveloped(instance, "application/vnd.in-toto+json", payload),
        ));
    }
    let payload = statement(json!([subject])).to_string();
    let twice = payload.replacen("\"predicate\":", "\"subject\":[],\"predicate\":", 1);
    cases.push((
        "statement/subject twice".into(),
        enveloped(instance, "application/vnd.in-toto+json", twice.into_bytes()),
    ));
    for media in
        ["application/vnd.in-toto+json; charset=utf-8", "application/json", "text/plain", ""]
    {
        cases.push((
            format!("envelope/payload type {media:?}"),
            enveloped(instance, media, payload.clone().into_bytes()),
        ));
    }
    cases.push((
        "envelope/payload empty".into(),
        enveloped(instance, "application/vnd.in-toto+json", vec![]),
    ));
    let mut bom = vec![0xef, 0xbb, 0xbf];
    bom.extend(payload.as_bytes());
    cases.push((
        "envelope/payload after a byte order mark".into(),
        enveloped(instance, "application/vnd.in-toto+json", bom),
    ));
}

/// A signed, stamped and logged envelope around any payload.
fn enveloped(instance: &Instance, payload_type: &str, payload: Vec<u8>) -> Value {
    let signer = certify(instance);
    let pae = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let pae = [pae.as_bytes(), &payload].concat();
    let signature = signer.sign(&pae);
    let body = hashedrekord_v2_body(
        HashAlgorithm::Sha256,
        &HashAlgorithm::Sha256.digest(&pae),
        &signature,
        Verifier::Certificate(signer.certificate()),
        KeyDetails::EcdsaP256Sha256,
    );
    let entry: Value = serde_json::from_str(&instance.log(body).to_json()).unwrap();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": { "rawBytes": base64(signer.certificate()) },
            "tlogEntries": [entry],
            "timestampVerificationData": { "rfc3161Timestamps": [
                { "signedTimestamp": base64(&instance.timestamp(&signature)) }] },
        },
        "dsseEnvelope": { "payload": base64(&payload), "payloadType": payload_type,
            "signatures": [{ "sig": base64(&signature), "keyid": "" }] },
    })
}

/// A certificate's PEM text, as Rekor v1 logs keep it; from base64 of the DER.
pub(crate) fn pem(text: &str) -> String {
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
