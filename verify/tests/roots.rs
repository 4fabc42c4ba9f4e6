//! Trusted roots as they are read: limits, the logs in them, and how these sign.

use countersign_testkit::{Instance, Signer};
use countersign_verify::TrustedRoot;
use countersign_verify::encoding::base64;
use countersign_verify::key::{self, KeyDetails};
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use countersign_verify::merkle::Hash;
use countersign_verify::trusted_root::{ElementError, Error, Log};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The Rekor v1 log of an instance's trusted root, as `change` makes it.
fn log(change: impl FnOnce(&mut Value)) -> Log {
    let mut root: Value = serde_json::from_str(&Instance::new().trusted_root()).unwrap();
    change(&mut root["tlogs"][1]);
    let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
    root.logs()[1].clone()
}

#[test]
fn a_log_is_named_by_the_host_of_its_url() {
    for (url, host) in [
        ("https://log.example.test", "log.example.test"),
        ("https://log.example.test:8443/path?query#fragment", "log.example.test"),
        ("https://log.example.test?query", "log.example.test"),
        ("https://user:secret@log.example.test/path", "log.example.test"),
        ("https://user@name@log.example.test:1", "log.example.test"),
        ("https://[2001:db8::1]:8443/", "2001:db8::1"),
        ("log.example.test/path", "log.example.test"),
    ] {
        let log = log(|log| log["baseUrl"] = url.into());
        assert_eq!((log.base_url(), log.host()), (url, host));
    }
}

/// Rekor's own keys on larger curves sign with SHA-256.
#[test]
fn a_log_with_a_key_on_a_larger_curve_signs_with_its_own_hash_or_sha256() {
    for (named, signs) in [
        (KeyDetails::EcdsaP384Sha384, KeyDetails::EcdsaP384Sha384),
        (KeyDetails::EcdsaP384Sha384, KeyDetails::EcdsaP384Sha256),
        (KeyDetails::EcdsaP521Sha512, KeyDetails::EcdsaP521Sha512),
        (KeyDetails::EcdsaP521Sha512, KeyDetails::EcdsaP521Sha256),
        (KeyDetails::EcdsaP256Sha256, KeyDetails::EcdsaP256Sha256),
    ] {
        let signer = Signer::with_key(signs);
        let spki = signer.spki();
        let log = log(|log| {
            log["publicKey"]["rawBytes"] = base64(&spki).into();
            log["publicKey"]["keyDetails"] = named.name().into();
            log["logId"] = json!({ "keyId": base64(Hash::of(&spki).as_bytes()) });
        });
        let signature = signer.sign(b"a checkpoint");
        assert_eq!(log.verify(b"a checkpoint", &signature), Ok(()), "{named:?}, {signs:?}");
        log.verify(b"another checkpoint", &signature).unwrap_err();
    }
}

#[test]
fn a_trusted_root_is_read_up_to_the_limit() {
    let root = Instance::new().trusted_root();
    let padded = |length: usize| format!("{root}{}", " ".repeat(length - root.len())).into_bytes();
    TrustedRoot::parse(&padded(MAX_TRUSTED_ROOT)).unwrap();
    let refused = TrustedRoot::parse(&padded(MAX_TRUSTED_ROOT + 1)).unwrap_err();
    let (limit, found) = (MAX_TRUSTED_ROOT, MAX_TRUSTED_ROOT + 1);
    assert_eq!(refused, Error::TooLong { limit, found });
}

/// Protobuf's JSON allows numbers for enumerations.
#[test]
fn what_is_named_may_have_its_number() {
    let root = Instance::new().trusted_root();
    let numbered = |hash: i64, details: i64| {
        let mut changed: Value = serde_json::from_str(&root).unwrap();
        changed["tlogs"][0]["hashAlgorithm"] = hash.into();
        changed["tlogs"][0]["publicKey"]["keyDetails"] = details.into();
        TrustedRoot::parse(changed.to_string().as_bytes())
    };
    let refused = |found: &str, reason: fn(String) -> ElementError| {
        let (member, reason) = ("tlogs", reason(found.to_owned()));
        Err(Error::Element { member, index: 0, reason })
    };
    assert_eq!(numbered(1, 7).map(drop), Ok(()));
    let hash = |found| ElementError::HashAlgorithm { found };
    assert_eq!(numbered(2, 7).map(drop), refused("SHA2_384", hash));
    assert_eq!(numbered(-1, 7).map(drop), refused("-1", hash));
    assert_eq!(
        numbered(1, 99).map(drop),
        refused("99", |found| ElementError::KeyDetails { found })
    );
    let pkcs1 =
        Err(Error::Element { member: "tlogs", index: 0, reason: key::Error::Encoding.into() });
    assert_eq!(numbered(1, 1).map(drop), pkcs1, "it is no RSAPublicKey");
}

#[test]
fn the_end_of_time_is_an_end() {
    let until = |end: &str| {
        let mut root: Value = serde_json::from_str(&Instance::new().trusted_root()).unwrap();
        root["certificateAuthorities"][0]["validFor"]["end"] = end.into();
        TrustedRoot::parse(root.to_string().as_bytes())
    };
    for end in ["9999-12-30T22:00:01Z", "9999-12-31T23:59:59.999999999Z"] {
        let root = until(end).unwrap();
        assert_eq!(
            root.certificate_authorities()[0].valid_for().end,
            Some(Timestamp::MAX),
            "{end}"
        );
    }
    for end in ["9999-12-32T00:00:00Z", "9999-12-31T23:59:59", "99999-01-01T00:00:00Z", "the end"] {
        assert!(matches!(until(end), Err(Error::Json { .. })), "{end}");
    }
}

#[test]
fn what_is_trusted_is_so_from_a_start_to_a_later_end() {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
    let windowed = |member: &str, start: &str, end: &str| {
        let mut root: Value = serde_json::from_str(&Instance::new().trusted_root()).unwrap();
        let trusted = match member {
            "tlogs" | "ctlogs" => &mut root[member][0]["publicKey"],
            _ => &mut root[member][0],
        };
        trusted["validFor"] = json!({ "start": start, "end": end });
        TrustedRoot::parse(root.to_string().as_bytes()).map(drop)
    };
    for member in ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"] {
        assert_eq!(windowed(member, early, late), Ok(()), "{member}");
        assert_eq!(windowed(member, early, early), Ok(()), "{member}");
        let (start, end) = (late.parse().unwrap(), early.parse().unwrap());
        let reason = ElementError::Window { start, end };
        assert_eq!(windowed(member, late, early), Err(Error::Element { member, index: 0, reason }));
    }
}
