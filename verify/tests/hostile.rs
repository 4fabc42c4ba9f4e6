//! Input made to confuse or to exhaust: an error that names the member and the limit, and quickly.

use countersign_testkit::{Instance, Shape};
use countersign_verify::bundle::{Bundle, Error};
use countersign_verify::certificate::{self, Certificate};
use countersign_verify::key::{self, PublicKey};
use countersign_verify::statement::{STATEMENT_V1, Statement};
use countersign_verify::{Artifact, TrustedRoot, limits, verify_json};
use serde_json::{Value, json};
use std::fmt::Write as _;

const ENTRIES: &str = "/verificationMaterial/tlogEntries";
const TIMESTAMPS: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

fn bundle() -> Value {
    let instance = Instance::new();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    instance.make(&signer, b"artifact", &Shape::ALL[0])
}

fn parse(bundle: &Value) -> Result<Bundle, Error> {
    Bundle::parse(bundle.to_string().as_bytes())
}

/// With one member changed.
fn with(path: &str, value: Value) -> Value {
    let mut bundle = bundle();
    *bundle.pointer_mut(path).unwrap() = value;
    bundle
}

#[test]
fn lists_end_at_their_limit() {
    let good = bundle();
    for (path, member, limit) in [
        (ENTRIES, "tlogEntries", limits::MAX_LOG_ENTRIES),
        (TIMESTAMPS, "rfc3161Timestamps", limits::MAX_TIMESTAMPS),
    ] {
        let one = good.pointer(path).unwrap()[0].clone();
        let found = 5000;
        let error = parse(&with(path, vec![one.clone(); found].into())).unwrap_err();
        assert_eq!(error, Error::TooMany { member, limit, found });
        assert!(error.to_string().contains(member) && error.to_string().contains("5000"));
        assert!(parse(&with(path, vec![one; limit].into())).is_ok());
    }
    let chain = json!({ "certificates": vec![json!({ "rawBytes": "AAAA" }); 5000] });
    let mut chained = with("/verificationMaterial/certificate", Value::Null);
    chained["verificationMaterial"]["x509CertificateChain"] = chain;
    let (member, limit) = ("x509CertificateChain.certificates", limits::MAX_CHAIN);
    assert_eq!(parse(&chained).unwrap_err(), Error::TooMany { member, limit, found: 5000 });
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let path = format!("{ENTRIES}/0/inclusionProof/hashes");
    let error = parse(&with(&path, vec![hash; 65].into())).unwrap_err();
    let member = "inclusionProof.hashes";
    assert_eq!(error, Error::TooMany { member, limit: limits::MAX_PROOF, found: 65 });
}

/// What stands where a list, a number or a name is read must not be kept before it is counted or refused. The test
/// starts itself again for each such place, and asks how much memory that took.
#[test]
#[cfg(target_os = "linux")]
fn what_is_refused_takes_no_memory() {
    const NAME: &str = "what_is_refused_takes_no_memory";
    const ELEMENTS: usize = 8 << 20;
    let places = [
        (format!("{ENTRIES}/0/inclusionProof/hashes"), "\"\","),
        (format!("{ENTRIES}/0/logIndex"), "0,"),
        ("/messageSignature/messageDigest/algorithm".to_owned(), "0,"),
        // Members of the whole, each of another name.
        (String::new(), "\"0123456\":0,"),
    ];
    if let Ok(place) = std::env::var(NAME) {
        let (path, element) = &places[place.parse::<usize>().unwrap()];
        let mut list =
            format!("[{}{}]", element.repeat(ELEMENTS - 1), element.trim_end_matches(','));
        if path.is_empty() {
            list.clear();
            (0..ELEMENTS).for_each(|number| write!(list, ",\"{number:07x}\":0").unwrap());
            list.replace_range(..1, "{");
            list.push('}');
        }
        let json = with(path, "HERE".into()).to_string().replace(r#""HERE""#, &list);
        assert!(Bundle::parse(json.as_bytes()).is_err());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
        return;
    }
    for (place, (path, element)) in places.iter().enumerate() {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        let test = test.args(["--exact", NAME, "--nocapture"]).env(NAME, place.to_string());
        let output = String::from_utf8(test.output().unwrap().stdout).unwrap();
        let peak = output.split_once("VmHWM:").expect("it ran").1.split_whitespace().next();
        let peak: usize = peak.unwrap().parse().unwrap();
        // The list is there three times while the text is put together, and then once.
        let most = 16 * 1024 + 4 * ELEMENTS * element.len() / 1024;
        assert!(peak < most, "{path}: {peak} kB");
    }
}

#[test]
fn members_end_at_their_limit() {
    let long = |bytes: usize| Value::from("A".repeat(bytes.div_ceil(3) * 4));
    for (path, member) in [
        (format!("{ENTRIES}/0/canonicalizedBody"), "canonicalizedBody"),
        (format!("{TIMESTAMPS}/0/signedTimestamp"), "signedTimestamp"),
        ("/verificationMaterial/certificate/rawBytes".to_owned(), "rawBytes"),
    ] {
        let error = parse(&with(&path, long(1 << 20))).unwrap_err();
        assert!(
            matches!(error, Error::MemberTooLong { member: found, .. } if found == member),
            "{error}"
        );
    }
    let path = format!("{ENTRIES}/0/inclusionProof/checkpoint/envelope");
    let error = parse(&with(&path, "x".repeat(limits::MAX_CHECKPOINT + 1).into())).unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: limits::MAX_CHECKPOINT, .. }), "{error}");
    let error = Bundle::parse(&vec![b' '; limits::MAX_BUNDLE + 1]).unwrap_err();
    assert_eq!(error, Error::TooLong { limit: limits::MAX_BUNDLE, found: limits::MAX_BUNDLE + 1 });
    let owned = Bundle::parse_owned(vec![b' '; limits::MAX_BUNDLE + 1]).unwrap_err();
    assert_eq!(owned, error);
    for read in [Bundle::parse_owned, |json: Vec<u8>| Bundle::parse(&json)] {
        assert_eq!(read(vec![b' '; limits::MAX_BUNDLE]), Err(Error::Nothing), "it is read");
    }
}

#[test]
fn numbers_outside_their_type_are_refused() {
    let path = format!("{ENTRIES}/0/logIndex");
    for wrong in [
        json!(-1),
        json!("-1"),
        json!("9223372036854775808"),
        json!(1e3),
        json!("1e3"),
        json!("0x1"),
        json!(" 1"),
        json!("+1"),
        json!(""),
        json!([1]),
        json!(true),
        json!(1.5),
    ] {
        let error = parse(&with(&path, wrong.clone())).unwrap_err();
        assert!(error.to_string().contains("whole number"), "{wrong}: {error}");
    }
}

#[test]
fn nesting_ends_long_before_the_stack() {
    let depth = 200_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let bomb = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(Bundle::parse(bomb.as_bytes()).is_err());
        assert!(TrustedRoot::parse(bomb.as_bytes()).is_err());
        let text = bundle().to_string();
        for member in [r#""verificationMaterial":"#, r#""logIndex":"#, r#""messageSignature":"#] {
            let hostile = text.replacen(member, &format!("{member}{bomb},\"x\":"), 1);
            assert!(Bundle::parse(hostile.as_bytes()).is_err());
        }
    }
}

/// Serde reads a struct from a list as well, its members by their places.
#[test]
fn a_list_is_no_object() {
    let values = |object: &Value, names: &[&str]| -> Value {
        assert_eq!(object.as_object().unwrap().len(), names.len(), "all that there are");
        names.iter().map(|name| object[*name].clone()).collect()
    };
    for (path, names) in [
        ("/messageSignature".to_owned(), &["messageDigest", "signature"][..]),
        ("/messageSignature/messageDigest".to_owned(), &["algorithm", "digest"]),
        ("/verificationMaterial/certificate".to_owned(), &["rawBytes"]),
        (format!("{ENTRIES}/0/logId"), &["keyId"]),
        (format!("{ENTRIES}/0/kindVersion"), &["kind", "version"]),
        (format!("{ENTRIES}/0/inclusionProof/checkpoint"), &["envelope"]),
        (format!("{TIMESTAMPS}/0"), &["signedTimestamp"]),
    ] {
        let list = values(bundle().pointer(&path).unwrap(), names);
        let error = parse(&with(&path, list)).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence"), "{path}: {error}");
    }
    let mut root: Value = serde_json::from_str(&Instance::new().trusted_root()).unwrap();
    let id = &mut root["tlogs"][0]["logId"];
    *id = values(id, &["keyId"]);
    let error = TrustedRoot::parse(root.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("invalid type: sequence"), "{error}");
    let (kind, digest) = (STATEMENT_V1, json!({ "sha256": "aa" }));
    for list in [
        json!([kind, [{ "digest": digest }], "p", null]),
        json!({ "_type": kind, "predicateType": "p", "subject": [["a", digest, null]] }),
    ] {
        let error = Statement::parse(list.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence"), "{error}");
    }
}

#[test]
fn each_member_may_stand_once_and_bytes_have_one_text() {
    let text = bundle().to_string();
    let repeated = text.replacen(r#""logIndex":"#, r#""logIndex":"2","logIndex":"#, 1);
    let error = Bundle::parse(repeated.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("duplicate field `logIndex`"), "{error}");
    let unknown = text.replacen('{', r#"{"extra":1,"#, 1);
    let error = Bundle::parse(unknown.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("unknown field `extra`"), "{error}");
    for wrong in ["AAAB=", "AAE", "AAF=", "-_8=", "AAE=\n", "AA E="] {
        let error = parse(&with("/messageSignature/signature", wrong.into())).unwrap_err();
        assert!(error.to_string().contains("base64"), "{wrong:?}: {error}");
    }
    for trailing in ["x", "{}", "\0", "\n{}"] {
        assert!(Bundle::parse(format!("{text}{trailing}").as_bytes()).is_err(), "{trailing:?}");
    }
    assert!(Bundle::parse(format!("{text}\n \n").as_bytes()).is_ok(), "white space is none");
}

/// DER: tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[tag, 0x84][..], &length, value].concat()
}

#[test]
fn keys_of_absurd_size_are_refused_by_size() {
    let rsa = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    for (bytes, bits) in [(1 << 20, 8 << 20), (128, 1024), (1025, 8200)] {
        // Without the leading zero and in the shortest form, as DER has it.
        let modulus = [&[0][..], &vec![0xff; bytes]].concat();
        let der = |tag: u8, value: &[u8]| -> Vec<u8> {
            match value.len() {
                length @ 0..128 => [&[tag, u8::try_from(length).unwrap()], value].concat(),
                length => {
                    let length = u32::try_from(length).unwrap().to_be_bytes();
                    let skip = length.iter().take_while(|byte| **byte == 0).count();
                    let count = 0x80 | u8::try_from(4 - skip).unwrap();
                    [&[tag, count], &length[skip..], value].concat()
                }
            }
        };
        let key = der(0x30, &[der(2, &modulus), der(2, &[1, 0, 1])].concat());
        let spki = der(0x30, &[der(0x30, &rsa), der(3, &[&[0], &key[..]].concat())].concat());
        assert_eq!(PublicKey::from_spki(&spki).unwrap_err(), key::Error::RsaSize { bits });
    }
}

#[test]
fn certificates_end_at_their_limits() {
    let instance = Instance::new();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    let padded = [signer.certificate(), &[0]].concat();
    assert!(matches!(Certificate::parse(&padded), Err(certificate::Error::Encoding { .. })));
    let long = tlv(0x30, &vec![0; limits::MAX_CERTIFICATE]);
    assert!(matches!(Certificate::parse(&long), Err(certificate::Error::TooLong { .. })));
    // As many extensions as fit into the size allowed.
    let params = |extensions: usize| {
        let mut params = rcgen::CertificateParams::default();
        params.custom_extensions = (0..extensions)
            .map(|number| {
                rcgen::CustomExtension::from_oid_content(
                    &[1, 3, 6, 1, 4, 1, number as u64],
                    vec![5, 0],
                )
            })
            .collect();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    assert!(Certificate::parse(&params(200)).is_ok());
    let error = Certificate::parse(&params(3000)).unwrap_err();
    assert_eq!(error, certificate::Error::TooManyExtensions { limit: 256, found: 3000 });
}

#[test]
fn nothing_in_a_bundle_chooses_whom_to_trust() {
    // Its own authorities beside it, in every place where a certificate may stand.
    let (instance, other) = (Instance::new(), Instance::new());
    let root = TrustedRoot::parse(other.trusted_root().as_bytes()).unwrap();
    let signer = instance.certify("https://git.example.test/acme", "https://issuer.example.test");
    for shape in &Shape::ALL {
        let bundle = instance.make(&signer, b"artifact", shape).to_string();
        let verdict = verify_json(bundle.as_bytes(), &Artifact::from_bytes(b"artifact"), &root);
        assert!(verdict.result().is_err(), "{}", shape.name);
    }
}
