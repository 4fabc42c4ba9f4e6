//! Authorities' own certificates: which form a chain, and the exact reason why others do not.

use const_oid::ObjectIdentifier;
use countersign_verify::chain::{CertificateAuthority, Error, TimestampAuthority};
use countersign_verify::trusted_root::Window;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const ALWAYS: Window = Window { start: None, end: None };

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn at_most(below: u8) -> IsCa {
    IsCa::Ca(BasicConstraints::Constrained(below))
}

/// Three certificates, the root last, each signed by the next; of these parameters.
fn signed(params: [CertificateParams; 3]) -> Vec<Vec<u8>> {
    let [first, middle, root] = params;
    let [first_key, middle_key, root_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root_certificate = root.self_signed(&root_key).unwrap();
    let root = Issuer::new(root, root_key);
    let middle_certificate = middle.signed_by(&middle_key, &root).unwrap();
    let middle = Issuer::new(middle, middle_key);
    let first_certificate = first.signed_by(&first_key, &middle).unwrap();
    let chain = [first_certificate, middle_certificate, root_certificate];
    chain.map(|certificate| certificate.der().to_vec()).to_vec()
}

fn authorities(alter: impl FnOnce(&mut [CertificateParams; 3])) -> Vec<Vec<u8>> {
    let mut params = ["issuing", "middle", "root"].map(authority);
    alter(&mut params);
    signed(params)
}

/// A certificate for timestamps, below two authorities.
fn stamping(alter: impl FnOnce(&mut [CertificateParams; 3])) -> Vec<Vec<u8>> {
    let mut params = ["stamping", "middle", "root"].map(authority);
    params[0].is_ca = IsCa::NoCa;
    params[0].key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // SEQUENCE { OBJECT IDENTIFIER timeStamping }, which RFC 3161 wants critical.
    let purpose = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8].to_vec();
    let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], purpose);
    usage.set_criticality(true);
    params[0].custom_extensions = vec![usage];
    alter(&mut params);
    signed(params)
}

fn certifying(chain: &[Vec<u8>]) -> Result<CertificateAuthority, Error> {
    CertificateAuthority::new(chain.iter().map(Vec::as_slice).collect(), ALWAYS)
}

fn timestamps(chain: &[Vec<u8>]) -> Result<TimestampAuthority, Error> {
    let chain = chain.iter().map(Vec::as_slice).collect();
    TimestampAuthority::new("https://time.example.test".to_owned(), chain, ALWAYS)
}

#[test]
fn a_chain_in_order_is_an_authority_with_all_its_certificates() {
    let chain = authorities(|_| {});
    let authority = certifying(&chain).unwrap();
    let kept: Vec<_> = authority.chain().iter().map(|it| it.der().to_vec()).collect();
    assert_eq!(kept, chain);
    assert_eq!(timestamps(&stamping(|_| {})).unwrap().uri(), "https://time.example.test");
    assert_eq!(certifying(&[]).map(drop), Err(Error::Empty));
    assert_eq!(timestamps(&[]).map(drop), Err(Error::Empty));
}

#[test]
fn each_certificate_of_a_chain_is_a_ca() {
    for place in 0..3 {
        for none in [IsCa::NoCa, IsCa::ExplicitNoCa] {
            let chain = authorities(|params| params[place].is_ca = none);
            assert_eq!(certifying(&chain).map(drop), Err(Error::NotAnAuthority { place }));
            let chain = stamping(|params| params[place].is_ca = none);
            let expected = if place == 0 { Ok(()) } else { Err(Error::NotAnAuthority { place }) };
            assert_eq!(timestamps(&chain).map(drop), expected);
        }
        let chain = authorities(|params| {
            params[place].key_usages = vec![KeyUsagePurpose::DigitalSignature];
        });
        let expected = Error::KeyUsage { certificate: "CA certificate" };
        assert_eq!(certifying(&chain).map(drop), Err(expected), "{place}");
        let chain = authorities(|params| params[place].key_usages = vec![]);
        certifying(&chain).expect("without key usages all are allowed");
    }
    let chain = stamping(|params| params[0].is_ca = at_most(0));
    assert_eq!(timestamps(&chain).map(drop), Err(Error::AuthoritySigns));
}

/// RFC 5280, section 4.2.1.9: how many CAs may be below, not counting the last certificate of a path.
#[test]
fn a_ca_has_no_more_cas_below_than_it_allows() {
    for place in 0..3 {
        for allowed in 0..4_u8 {
            let chain = authorities(|params| params[place].is_ca = at_most(allowed));
            let expected = match place <= usize::from(allowed) {
                true => Ok(()),
                false => Err(Error::PathLength { place, below: place }),
            };
            assert_eq!(certifying(&chain).map(drop), expected, "{place}, {allowed}");
        }
    }
    // The certificate for timestamps is no CA.
    for (place, allowed, expected) in
        [(1, 0, Ok(())), (2, 1, Ok(())), (2, 0, Err(Error::PathLength { place: 2, below: 1 }))]
    {
        let chain = stamping(|params| params[place].is_ca = at_most(allowed));
        assert_eq!(timestamps(&chain).map(drop), expected, "{place}, {allowed}");
    }
}

#[test]
fn a_ca_for_something_else_is_none() {
    use ExtendedKeyUsagePurpose::{Any, CodeSigning, ServerAuth, TimeStamping};
    for place in 0..3 {
        for (purposes, certifies, stamps) in [
            (vec![CodeSigning], true, false),
            (vec![TimeStamping], false, true),
            (vec![ServerAuth], false, false),
            (vec![ServerAuth, CodeSigning], true, false),
            (vec![Any], true, true),
        ] {
            let expected = |fits, purpose| match fits {
                true => Ok(()),
                false => Err(Error::OtherPurpose { place, purpose }),
            };
            let chain = authorities(|params| params[place].extended_key_usages = purposes.clone());
            let found = certifying(&chain).map(drop);
            assert_eq!(found, expected(certifies, CODE_SIGNING), "{place}, {purposes:?}");
            if place > 0 {
                let chain = stamping(|params| params[place].extended_key_usages = purposes.clone());
                let found = timestamps(&chain).map(drop);
                assert_eq!(found, expected(stamps, TIME_STAMPING), "{place}, {purposes:?}");
            }
        }
    }
}

#[test]
fn name_constraints_stand_on_the_issuing_ca_only() {
    let constrained = || NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.test".to_owned())],
        excluded_subtrees: vec![],
    };
    for place in 0..3 {
        let chain = authorities(|params| params[place].name_constraints = Some(constrained()));
        let expected = if place == 0 { Ok(()) } else { Err(Error::NameConstraints { place }) };
        assert_eq!(certifying(&chain).map(drop), expected);
    }
    for place in 1..3 {
        let chain = stamping(|params| params[place].name_constraints = Some(constrained()));
        assert_eq!(timestamps(&chain).map(drop), Err(Error::NameConstraints { place }));
    }
}

#[test]
fn each_certificate_is_signed_by_the_next_and_names_it() {
    let [one, other] = [(); 2].map(|()| authorities(|_| {}));
    for (chain, place) in [
        ([&one[0], &other[1], &other[2]], 0),
        ([&one[0], &one[1], &other[2]], 1),
        ([&one[0], &one[2], &one[1]], 0),
    ] {
        let chain = chain.map(Clone::clone);
        assert_eq!(certifying(&chain).map(drop), Err(Error::NotSignedByNext { place }));
    }
    certifying(&one[1..]).expect("what is above an authority is one");
    let turned: Vec<_> = one.iter().rev().cloned().collect();
    assert_eq!(certifying(&turned).map(drop), Err(Error::RootFirst));
    // The key of the next and another name; then the same for what is below an authority's certificate.
    let key = KeyPair::generate().unwrap();
    let root = authority("root").self_signed(&key).unwrap().der().to_vec();
    let misnamed = Issuer::new(authority("another"), key);
    let issuing = authority("issuing").signed_by(&KeyPair::generate().unwrap(), &misnamed).unwrap();
    let chain = [issuing.der().to_vec(), root];
    assert_eq!(certifying(&chain).map(drop), Err(Error::NotSignedByNext { place: 0 }));
    let [one, other] = [(); 2].map(|()| stamping(|_| {}));
    let chain = [&one[0], &other[1], &other[2]].map(Clone::clone);
    assert_eq!(timestamps(&chain).map(drop), Err(Error::NotSignedByNext { place: 0 }));
}
