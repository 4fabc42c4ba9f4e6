//! The payload of an attestation, which may be large: read into the place of its own text, it is the same as read
//! elsewhere, and its limits are the same.

use countersign_testkit::Instance;
use countersign_verify::Bundle;
use countersign_verify::bundle::{Content, Error};
use countersign_verify::encoding::base64;
use countersign_verify::limits::MAX_PAYLOAD;

const MEMBER: &str = "dsseEnvelope.payload";

/// A bundle around a payload's text: what comes before and after it.
fn around() -> (String, String) {
    let instance = Instance::new();
    let signer = instance.certify("https://who.example.test", "https://issuer.example.test");
    instance.attest(&signer, b"artifact").json_around_payload()
}

/// The payload by either reader, which agree.
fn payload((before, after): &(String, String), text: &str) -> Result<Vec<u8>, Error> {
    let json = [before, text, after].concat();
    let read = Bundle::parse(json.as_bytes());
    assert_eq!(Bundle::parse_owned(json.into_bytes()), read);
    read.map(|bundle| match bundle.content() {
        Content::Dsse(envelope) => envelope.payload.to_vec(),
        Content::Message(_) => panic!("an attestation"),
    })
}

/// 16 KiB of text at a time are decoded: 12 KiB.
#[test]
fn it_is_the_same_whatever_its_length() {
    const PIECE: usize = 12 << 10;
    let around = around();
    for length in [1, 2, 3, 4, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 2, 5 * PIECE + 7]
    {
        let bytes: Vec<_> = (0..length).map(|place| (place * 7 % 251) as u8).collect();
        let text = base64(&bytes);
        assert_eq!(payload(&around, &text).as_ref(), Ok(&bytes), "{length}");
        if text.contains('/') {
            let escaped = text.replace('/', "\\/");
            assert_eq!(payload(&around, &escaped).as_ref(), Ok(&bytes), "{length}, escaped");
        }
        let malformed = Err(Error::Base64 { member: MEMBER });
        for place in [0, text.len() / 2, text.len() - 1] {
            let mut other = text.clone();
            other.replace_range(place..=place, "!");
            assert_eq!(payload(&around, &other), malformed, "{length}, {place}");
        }
        assert_eq!(payload(&around, &format!("{text}A")), malformed, "{length}");
    }
    // Padding ends all of it, not a piece.
    let pieces = base64(&vec![1; PIECE - 1]) + &base64(&[2; 9]);
    assert_eq!(payload(&around, &pieces), Err(Error::Base64 { member: MEMBER }));
    assert_eq!(payload(&around, ""), Err(Error::Empty { member: MEMBER }));
}

#[test]
fn it_ends_at_its_limit() {
    let around = around();
    let whole = base64(&vec![0; MAX_PAYLOAD]);
    assert_eq!(payload(&around, &whole).map(|bytes| bytes.len()), Ok(MAX_PAYLOAD));
    let longer = whole + "AAAA";
    let (limit, found) = (MAX_PAYLOAD, longer.len() / 4 * 3);
    let refused = Err(Error::MemberTooLong { member: MEMBER, limit, found });
    assert_eq!(payload(&around, &longer), refused);
}
