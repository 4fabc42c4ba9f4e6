//! Timestamps: whose token it is, what it must say, and how its time is written.

use countersign_testkit::{Instance, Named, Stamp, TIMESTAMP_KEY_ID, tlv};
use countersign_verify::chain::TimestampAuthority;
use countersign_verify::timestamp::{Error, verify};
use countersign_verify::trusted_root::Window;
use jiff::Timestamp;

const SIGNED: &[u8] = b"a signature";
const SHA256_WITH_RSA: &[u32] = &[1, 2, 840, 113_549, 1, 1, 11];
const RSA_ENCRYPTION: &[u32] = &[1, 2, 840, 113_549, 1, 1, 1];
const SHA256_WITH_ECDSA: &[u32] = &[1, 2, 840, 10045, 4, 3, 2];

fn authority(instance: &Instance) -> TimestampAuthority {
    let (own, root) = (instance.timestamp_certificate(), instance.root_certificate());
    let window = Window { start: None, end: None };
    TimestampAuthority::new(String::new(), vec![&own, &root], window).unwrap()
}

/// The token's time, as its authority's, or why it is not believed.
fn told(instance: &Instance, change: impl FnOnce(&mut Stamp)) -> Result<Timestamp, Error> {
    let token = instance.stamp(SIGNED, change);
    verify(&token, SIGNED, &[authority(instance)]).map(|(time, _)| time)
}

#[test]
fn a_token_is_its_authoritys_by_issuer_and_serial_number() {
    let instance = Instance::new();
    assert_eq!(told(&instance, |_| {}), Ok(instance.stamped()));
    assert_eq!(told(&instance, |stamp| stamp.other_serial = true), Err(Error::UnknownAuthority));
    assert_eq!(told(&instance, |stamp| stamp.other_issuer = true), Err(Error::UnknownAuthority));
    let token = instance.stamp(SIGNED, |_| {});
    let (own, other) = (authority(&instance), authority(&Instance::new()));
    let place = verify(&token, SIGNED, &[other.clone(), own]).map(|(_, place)| place);
    assert_eq!(place, Ok(1));
    assert_eq!(verify(&token, SIGNED, &[other]), Err(Error::UnknownAuthority));
    assert_eq!(verify(&token, SIGNED, &[]), Err(Error::UnknownAuthority));
}

/// RFC 3161, section 2.4.2: a rejection has no token.
#[test]
fn what_an_authority_refused_is_told_as_that() {
    let instance = Instance::new();
    let response = |status: &[u8], token: &[u8]| {
        let status = tlv(0x30, &tlv(0x02, status));
        verify(&tlv(0x30, &[status, token.to_vec()].concat()), SIGNED, &[authority(&instance)])
    };
    for (status, found) in [(&[2][..], Some(2)), (&[5], Some(5)), (&[2, 0], None)] {
        assert_eq!(response(status, &[]), Err(Error::Status { found }));
    }
    let malformed = Err(Error::Encoding { part: "TimeStampResp" });
    assert_eq!(response(&[0], &[]), malformed, "granted, and no token");
    assert_eq!(response(&[0], &tlv(0x04, &[])), malformed, "something else");
    assert_eq!(response(&[0], &[tlv(0x30, &[]), tlv(0x30, &[])].concat()), malformed, "two");
}

/// RFC 5652, section 5.3: `[0] IMPLICIT SubjectKeyIdentifier`.
#[test]
fn a_token_is_its_authoritys_by_key_identifier() {
    let instance = Instance::new();
    let by = |tag, id: [u8; 20]| told(&instance, |stamp| stamp.key_id = Some((tag, id.to_vec())));
    assert_eq!(by(0x80, TIMESTAMP_KEY_ID), Ok(instance.stamped()));
    assert_eq!(by(0x80, [7; 20]), Err(Error::UnknownAuthority));
    assert_eq!(by(0x81, TIMESTAMP_KEY_ID), Err(Error::UnknownAuthority));
}

/// RFC 5816: which certificate is meant is signed, too.
#[test]
fn a_certificate_that_a_token_names_is_its_authoritys() {
    let instance = Instance::new();
    for named in [Named::Nothing, Named::Sha256, Named::Sha512] {
        assert_eq!(
            told(&instance, |stamp| stamp.names = named),
            Ok(instance.stamped()),
            "{named:?}"
        );
    }
    let other = told(&instance, |stamp| stamp.names = Named::Another);
    assert_eq!(other, Err(Error::OtherCertificate));
}

/// RFC 5652, section 11: both must be there.
#[test]
fn content_type_and_digest_are_signed() {
    let instance = Instance::new();
    for place in [0, 1] {
        let without = told(&instance, |stamp| stamp.without = Some(place));
        assert_eq!(without, Err(Error::MissingAttribute), "{place}");
    }
}

/// X.690, section 8.7.3: BER may have an OCTET STRING in pieces. What is signed is their octets.
#[test]
fn what_a_token_says_may_be_in_pieces() {
    type Written = fn(&[u8]) -> Vec<u8>;
    const PIECES: u8 = 0x24;
    let instance = Instance::new();
    let whole: [Written; 3] = [
        |info| tlv(PIECES, &tlv(4, info)),
        |info| tlv(PIECES, &[tlv(4, &info[..7]), tlv(4, &[]), tlv(4, &info[7..])].concat()),
        |info| tlv(PIECES, &info.iter().flat_map(|byte| tlv(4, &[*byte])).collect::<Vec<_>>()),
    ];
    for content in whole {
        assert_eq!(told(&instance, |stamp| stamp.content = content), Ok(instance.stamped()));
    }
    let part = "encapContentInfo";
    let malformed: [Written; 6] = [
        |info| tlv(PIECES, &tlv(PIECES, &tlv(4, info))),
        |info| tlv(PIECES, &tlv(0x30, info)),
        |info| [tlv(PIECES, &tlv(4, info)), vec![5, 0]].concat(),
        |info| tlv(PIECES, &[tlv(4, info), vec![4]].concat()),
        |_| vec![PIECES],
        |info| tlv(0x30, info),
    ];
    for content in malformed {
        let refused = told(&instance, |stamp| stamp.content = content);
        assert_eq!(refused, Err(Error::Encoding { part }));
    }
    let cut = told(&instance, |stamp| {
        stamp.content = |info| tlv(PIECES, &tlv(4, &info[..info.len() - 1]));
    });
    assert_eq!(cut, Err(Error::ContentDigest));
    let nothing = told(&instance, |stamp| stamp.content = |_| tlv(PIECES, &[]));
    assert_eq!(nothing, Err(Error::ContentDigest));
}

/// The hash of a bare key type is the digest algorithm's, as OpenSSL writes it for RSA; for other keys there is none.
#[test]
fn a_signature_is_by_an_algorithm_of_the_authoritys_key() {
    let refused = Err(Error::Encoding { part: "signatureAlgorithm" });
    let rsa = Instance::with_rsa_timestamps();
    for algorithm in [SHA256_WITH_RSA, RSA_ENCRYPTION] {
        // Parameters are NULL or missing.
        for null in [true, false] {
            let told = told(&rsa, |stamp| stamp.algorithm = (algorithm, null));
            assert_eq!(told, Ok(rsa.stamped()), "{algorithm:?}, {null}");
        }
    }
    let ecdsa = told(&rsa, |stamp| stamp.algorithm = (SHA256_WITH_ECDSA, false));
    assert!(matches!(ecdsa, Err(Error::Signature(_))), "{ecdsa:?}");
    let instance = Instance::new();
    for algorithm in [SHA256_WITH_RSA, RSA_ENCRYPTION] {
        let told = told(&instance, |stamp| stamp.algorithm = (algorithm, true));
        assert!(matches!(told, Err(Error::Signature(_))), "{algorithm:?}: {told:?}");
    }
    // A token whose parameters are something else: an INTEGER where the NULL is.
    let mut token = rsa.stamp(SIGNED, |stamp| stamp.algorithm = (SHA256_WITH_RSA, true));
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
    let place = token.windows(oid.len()).position(|window| window == oid).unwrap();
    token[place + 11] = 4; // an empty OCTET STRING
    assert_eq!(verify(&token, SIGNED, &[authority(&rsa)]).map(|(time, _)| time), refused);
}

/// RFC 3161, section 2.4.2: `YYYYMMDDhhmmss[.s...]Z`.
#[test]
fn a_time_is_written_in_one_way_only() {
    let instance = Instance::new();
    for (text, expected) in [
        ("20261123120000Z", "2026-11-23T12:00:00Z"),
        ("20261123120000.5Z", "2026-11-23T12:00:00.5Z"),
        ("20261123120000.000000001Z", "2026-11-23T12:00:00.000000001Z"),
    ] {
        let found = told(&instance, |stamp| stamp.time_text = Some(text.to_owned()));
        assert_eq!(found, Ok(expected.parse().unwrap()), "{text}");
    }
    for text in [
        "20261123120000",
        "20261123120000+0000",
        "20261123120000.Z",
        "20261123120000.+5Z",
        "20261123120000.0000000001Z",
        "2026112312000Z",
        "202611231200000Z",
        "202611231200Z",
        "+0261123120000Z",
        "2026112312000+Z",
        "20261323120000Z",
        "20261123250000Z",
        "",
    ] {
        let found = told(&instance, |stamp| stamp.time_text = Some(text.to_owned()));
        assert_eq!(found, Err(Error::Encoding { part: "genTime" }), "{text}");
    }
}
