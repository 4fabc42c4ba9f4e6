//! Fuzz targets, one a parser. Each asks: no panic, bounded work, and what was read writes back.

pub mod fixed;
pub mod seeds;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_ca::identity::template::Template;
use countersign_ca::identity::{FulcioConfig, Issuer, explained};
use countersign_ca::possession;
use countersign_ca::timestamp::Query;
use countersign_policy::admission::{Kinds, Review};
use countersign_verify::assertion::Assertion;
use countersign_verify::bundle::{Bundle, Content, LogEntry};
use countersign_verify::certificate::Certificate;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::entry::Entry;
use countersign_verify::note::{Note, VerifierKey};
use countersign_verify::simple_signing::Payload;
use countersign_verify::statement::Statement;
use countersign_verify::tile::{EntryBundle, Tile, decode_entries, encode_entries};
use countersign_verify::witness::{AddCheckpoint, Log, Policy};
use countersign_verify::{TrustedRoot, sct};
use jiff::Timestamp;
use std::sync::LazyLock;

/// One parser under test.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 21] = [
    ("assertion", assertion),
    ("bundle", bundle),
    ("certificate", certificate),
    ("entry", entry),
    ("fulcio_config", fulcio_config),
    ("identity_token", identity_token),
    ("note", note),
    ("policy", policy),
    ("review", review),
    ("sct", sct_list),
    ("signing_request", signing_request),
    ("simple_signing", simple_signing),
    ("statement", statement),
    ("template", template),
    ("tile", tile),
    ("timestamp", timestamp_token),
    ("timestamp_query", timestamp_query),
    ("trusted_root", trusted_root),
    ("verifier_key", verifier_key),
    ("verify", verification),
    ("witness", witness),
];

/// What an authority's policy found.
pub fn assertion(data: &[u8]) {
    if let Ok(assertion) = Assertion::parse(data) {
        // What is passed over is not written again, and escapes may be longer than what they stand for.
        if let Ok(value) = assertion.to_value() {
            assert_eq!(Assertion::parse(&value), Ok(assertion));
        }
    }
}

/// Bundles and log replies. Reading in place comes to the same.
pub fn bundle(data: &[u8]) {
    assert_eq!(Bundle::parse_owned(data.to_vec()), Bundle::parse(data));
    if let Ok(bundle) = Bundle::parse(data) {
        let written = bundle.to_json();
        let again = Bundle::parse(written.as_bytes());
        match bundle.content() {
            Content::Message(message) if message.digest.is_empty() => {
                again.expect_err("a bundle claims a digest");
            }
            _ => assert_eq!(again.expect("what was written reads").to_json(), written),
        }
    }
    if let Ok(entry) = LogEntry::parse(data) {
        let again = LogEntry::parse(entry.to_json().as_bytes()).expect("what was written reads");
        assert_eq!(again, entry);
    }
}

/// Certificates, identities, precertificate bodies.
pub fn certificate(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.der(), data);
        if let Ok(identity) = certificate.identity() {
            assert!(certificate.names().iter().any(|name| name == identity.subject().as_str()));
            assert!(
                identity.issuer().is_none_or(|it| certificate.issuers().contains(&it.to_owned()))
            );
        }
        let _ = (certificate.basic_constraints(), certificate.key_usage());
        let tbs =
            sct::precertificate_tbs(&certificate).expect("a certificate that parses has a body");
        assert!(tbs.len() <= certificate.tbs().len());
    }
}

/// Bodies of log entries.
pub fn entry(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data) {
        assert!(!entry.digests.is_empty());
    }
}

/// Policies, their cases and those of others. Each reader says yes, or where the mistakes are.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match countersign_policy::Policy::parse(text) {
        Ok(policy) => drop((policy.lints(Timestamp::UNIX_EPOCH), policy.kinds())),
        Err(mistakes) => assert!(!mistakes.0.is_empty(), "a refusal has its reason"),
    }
    let _ = countersign_policy::import::cluster_image_policies(text, "p");
}

/// Signed notes and checkpoints.
pub fn note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.text(), note.text());
        }
    }
}

/// Reviews of an API server: every place that is named names its image.
pub fn review(data: &[u8]) {
    let Ok(review) = Review::parse(data, &Kinds::default()) else { return };
    // Members that nobody asks for are not read, so they may be what no value can hold.
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    for place in &review.places {
        let image = json["request"]["object"].pointer(&place.pointer);
        assert_eq!(image.and_then(|image| image.as_str()), Some(place.image.as_str()));
    }
}

/// SCT lists.
pub fn sct_list(data: &[u8]) {
    if let Ok(scts) = sct::parse_list_extension(data) {
        assert_eq!(sct::list_extension(&scts), data);
        for sct in scts {
            let _ = sct.leaf_index();
        }
    }
}

/// What cosign's older signatures of images cover.
pub fn simple_signing(data: &[u8]) {
    if let Ok(payload) = Payload::parse(data) {
        assert!(payload.image().is_some());
        assert_eq!(Payload::parse(&payload.to_json()), Ok(payload));
    }
}

/// in-toto statements.
pub fn statement(data: &[u8]) {
    let _ = Statement::parse(data);
}

/// Tile paths and entry bundles.
pub fn tile(data: &[u8]) {
    if let Ok(entries) = decode_entries(data) {
        assert_eq!(encode_entries(entries), data);
    }
    let Ok(path) = std::str::from_utf8(data) else { return };
    if let Some(tile) = Tile::parse_path(path) {
        assert_eq!(tile.path(), path);
    }
    if let Some(bundle) = EntryBundle::parse_path("entries", path) {
        assert_eq!(bundle.path("entries"), path);
    }
}

/// RFC 3161 responses, over the signatures of the fixed instance.
pub fn timestamp_token(data: &[u8]) {
    fixed::check_timestamp(data);
}

/// Trusted roots.
pub fn trusted_root(data: &[u8]) {
    let _ = TrustedRoot::parse(data);
}

/// The whole procedure, over the fixed instance: what is accepted is one of its own bundles.
pub fn verification(data: &[u8]) {
    fixed::check(data);
}

/// Verifier keys.
pub fn verifier_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
}

/// Requests to witnesses, witness policies, and lists of logs.
pub fn witness(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(request) = AddCheckpoint::parse(text) {
        assert_eq!(request.to_string(), text);
        if let Ok(policy) = Policy::parse(seeds::POLICY) {
            assert!(policy.check(&request.note).is_err(), "nothing is signed by these keys");
        }
    }
    if let Ok(policy) = Policy::parse(text) {
        assert!(policy.suffices(|_| true), "all together are enough");
    }
    let _ = Log::parse_list(text);
}

/// Fulcio's configurations.
pub fn fulcio_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match FulcioConfig::parse(text) {
        Ok(config) => assert!(!config.issuers.is_empty()),
        Err(mistakes) => assert!(!mistakes.0.is_empty() && !mistakes.to_string().is_empty()),
    }
}

/// Claims, by every kind of mapping: what has a name has a whole one.
pub fn identity_token(data: &[u8]) {
    static ISSUERS: LazyLock<Vec<Issuer>> = LazyLock::new(|| {
        FulcioConfig::parse(fixed::CONFIGURATION).expect("a configuration").issuers
    });
    let token = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(data));
    if let Ok(told) = explained::unverified(&token, &ISSUERS) {
        let name = told["identity"].as_str().expect("a name");
        assert!(name.len() > 2 && !name.contains(['\0', '\n', '\r']), "{name:?}");
    }
}

/// Certificate signing requests.
pub fn signing_request(data: &[u8]) {
    let _ = possession::signing_request(data);
}

/// Templates, read and filled.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(template) = Template::parse(text) {
        let claim = |name: &str| name.len().is_multiple_of(2).then(|| name.to_owned());
        let filled = template.fill(&claim, false);
        // What is whole is the same text.
        if let Ok(whole) = template.fill(&claim, true) {
            assert_eq!(Ok(whole), filled);
        }
    }
}

/// Timestamp queries, DER.
pub fn timestamp_query(data: &[u8]) {
    let _ = Query::from_der(data);
}
