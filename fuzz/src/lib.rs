//! Fuzz targets, one a parser. Each asks: no panic, bounded work, and what was read writes back.

pub mod fixed;
pub mod seeds;

use countersign_policy::admission::{Kinds, Review};
use countersign_verify::bundle::{Bundle, LogEntry};
use countersign_verify::certificate::Certificate;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::note::{Note, VerifierKey};
use countersign_verify::statement::Statement;
use countersign_verify::tile::{EntryBundle, Tile, decode_entries, encode_entries};
use countersign_verify::witness::{AddCheckpoint, Log, Policy};
use countersign_verify::{TrustedRoot, sct};

/// One parser under test.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 12] = [
    ("bundle", bundle),
    ("certificate", certificate),
    ("note", note),
    ("review", review),
    ("sct", sct_list),
    ("statement", statement),
    ("tile", tile),
    ("timestamp", timestamp_token),
    ("trusted_root", trusted_root),
    ("verifier_key", verifier_key),
    ("verify", verification),
    ("witness", witness),
];

/// Bundles and log replies.
pub fn bundle(data: &[u8]) {
    if let Ok(bundle) = Bundle::parse(data) {
        let written = bundle.to_json();
        let again = Bundle::parse(written.as_bytes()).expect("what was written reads");
        assert_eq!(again.to_json(), written);
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
        let _ = certificate.identity();
        let _ = (certificate.basic_constraints(), certificate.key_usage());
        let tbs = sct::precertificate_tbs(data).expect("a certificate that parses has a body");
        assert!(tbs.len() <= certificate.tbs().len());
    }
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
    let json: serde_json::Value = serde_json::from_slice(data).expect("a review is JSON");
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
