//! What a signing certificate says, and how much it may say.

use countersign_testkit::tlv;
use countersign_verify::assertion::{ASSERTION, Assertion};
use countersign_verify::certificate::{Certificate, Error, Subject};
use countersign_verify::limits::{MAX_CERTIFICATE, MAX_EXTENSIONS};
use jiff::Timestamp;
use rcgen::{CertificateParams, CustomExtension, KeyPair, OtherNameValue, PKCS_ED25519, SanType};

const FULCIO: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];
const USERNAME: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 7];

fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    // Its signatures have one length.
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn certificate(names: &[SanType], extensions: Vec<CustomExtension>) -> Certificate {
    let der = der(|params| {
        params.subject_alt_names = names.to_vec();
        params.custom_extensions = extensions;
    });
    Certificate::parse(&der).unwrap()
}

fn fulcio(number: u64, value: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[&FULCIO[..], &[number]].concat(), value.to_vec())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().unwrap())
}

fn other(kind: &[u64], text: &str) -> SanType {
    SanType::OtherName((kind.to_vec(), OtherNameValue::Utf8String(text.to_owned())))
}

#[test]
fn the_subject_is_the_first_uri_or_else_email_or_else_username() {
    let unknown = other(&[1, 2, 3], "of another kind");
    let (user, host) =
        (other(&USERNAME, "user!host"), SanType::DnsName("host.test".try_into().unwrap()));
    let (mail, link) = (email("one@mail.test"), uri("https://one.test"));
    let all =
        [&host, &unknown, &user, &mail, &email("two@mail.test"), &link, &uri("https://two.test")];
    let subject = |names: &[&SanType]| {
        let names: Vec<_> = names.iter().map(|name| (*name).clone()).collect();
        certificate(&names, vec![]).identity().map(|identity| identity.subject().clone())
    };
    assert_eq!(subject(&all), Ok(Subject::Uri("https://one.test".into())));
    assert_eq!(subject(&all[..5]), Ok(Subject::Email("one@mail.test".into())));
    assert_eq!(subject(&all[..3]), Ok(Subject::Username("user!host".into())));
    assert_eq!(subject(&all[..2]), Err(Error::NoIdentity));
    assert_eq!(subject(&[]), Err(Error::NoIdentity));
    let all: Vec<_> = all.iter().map(|name| (*name).clone()).collect();
    let names = certificate(&all, vec![]).names();
    let expected = [
        "host.test",
        "user!host",
        "one@mail.test",
        "two@mail.test",
        "https://one.test",
        "https://two.test",
    ];
    assert_eq!(names, expected, "all that is a name to somebody");
    assert!(certificate(&[], vec![]).names().is_empty());
}

#[test]
fn the_issuer_is_the_second_extensions_or_else_the_firsts_and_they_agree() {
    let (first, second) =
        (fulcio(1, b"https://one.test"), fulcio(8, &tlv(0x0c, b"https://one.test")));
    let another = fulcio(8, &tlv(0x0c, b"https://two.test"));
    let read = |extensions: &[&CustomExtension]| {
        let extensions = extensions.iter().map(|it| (*it).clone()).collect();
        let certificate = certificate(&[uri("https://who.test")], extensions);
        let issuer = certificate.identity().map(|it| it.issuer().map(ToOwned::to_owned));
        (issuer, certificate.issuers())
    };
    let one = "https://one.test".to_owned();
    for extensions in [&[&first][..], &[&second], &[&first, &second]] {
        assert_eq!(read(extensions), (Ok(Some(one.clone())), vec![one.clone()]));
    }
    let two = "https://two.test".to_owned();
    let refused = Error::TwoIssuers { v1: one.clone(), v2: two.clone() };
    assert_eq!(read(&[&first, &another]), (Err(refused), vec![two, one]));
    assert_eq!(read(&[]), (Ok(None), vec![]));
    // The first is bare text, the second and all later ones a UTF8String.
    let bare = fulcio(8, b"https://one.test");
    assert_eq!(read(&[&bare]), (Err(Error::Claim { number: 8 }), vec![]));
    assert_eq!(read(&[&fulcio(6, &[0xff])]).0, Err(Error::Claim { number: 6 }));
}

#[test]
fn what_our_authoritys_policy_found_is_read() {
    let oid: Vec<_> = ASSERTION.arcs().map(u64::from).collect();
    let said = |value| {
        let extension = CustomExtension::from_oid_content(&oid, value);
        certificate(&[], vec![extension]).assertion()
    };
    let (policy, roles) = ("release".to_owned(), vec!["builder".to_owned()]);
    let found = Assertion { policy, roles, serial: 7, ..Assertion::default() };
    assert_eq!(said(found.to_value().unwrap()), Ok(Some(found)));
    said(b"no UTF8String".to_vec()).unwrap_err();
    assert_eq!(certificate(&[], vec![]).assertion(), Ok(None));
}

#[test]
fn a_certificate_has_as_many_extensions_and_bytes_as_the_limits_say() {
    let with = |count: usize| {
        // rcgen adds the key's identifier.
        let extension = |number: usize| {
            CustomExtension::from_oid_content(&[1, 2, 3, number as u64], vec![5, 0])
        };
        der(|params| params.custom_extensions = (0..count).map(extension).collect())
    };
    let own = Certificate::parse(&with(0)).unwrap().extensions().len();
    let most = Certificate::parse(&with(MAX_EXTENSIONS - own)).unwrap();
    assert_eq!(most.extensions().len(), MAX_EXTENSIONS);
    for found in [MAX_EXTENSIONS + 1, MAX_EXTENSIONS + 7] {
        let refused = Certificate::parse(&with(found - own)).unwrap_err();
        assert_eq!(refused, Error::TooManyExtensions { limit: MAX_EXTENSIONS, found });
    }
    let padded = |bytes: usize| {
        let pad = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0; bytes]);
        der(|params| params.custom_extensions = vec![pad])
    };
    let rest = padded(MAX_CERTIFICATE / 2).len() - MAX_CERTIFICATE / 2;
    let largest = padded(MAX_CERTIFICATE - rest);
    assert_eq!(largest.len(), MAX_CERTIFICATE);
    Certificate::parse(&largest).unwrap();
    let refused = Certificate::parse(&padded(MAX_CERTIFICATE - rest + 1)).unwrap_err();
    assert_eq!(refused, Error::TooLong { limit: MAX_CERTIFICATE, found: MAX_CERTIFICATE + 1 });
}

/// RFC 5280, section 4.1.2.5.
#[test]
fn a_certificate_may_be_valid_to_the_end_of_time() {
    let der = der(|_| {});
    let end = |date: &[u8; 15]| {
        let place = der.windows(15).position(|text| text == b"40960101000000Z").unwrap();
        let dated = [&der[..place], date, &der[place + 15..]].concat();
        Certificate::parse(&dated).map(|certificate| certificate.not_after())
    };
    assert_eq!(end(b"99991230220000Z"), Ok("9999-12-30T22:00:00Z".parse().unwrap()));
    for last in [b"99991230220001Z", b"99991231235959Z"] {
        assert_eq!(end(last).unwrap().as_second(), Timestamp::MAX.as_second());
    }
    assert!(end(b"99991232000000Z").is_err());
}
