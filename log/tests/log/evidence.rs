//! Exported evidence: whole it holds, and no other file does.

use crate::support::{Place, append, fill};
use countersign_log::evidence::{Check, Error, Evidence, Writer};
use countersign_log::read::Reader;
use countersign_log::{Format, LogKey};
use countersign_testkit::Instance;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::base64;
use countersign_verify::entry::{Verifier, hashedrekord_v2_body};
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use std::sync::Arc;

/// The entries from 2 to before 5 of a log of 7; the fourth is by a certificate.
async fn exported(place: &Place) -> (String, Vec<u8>) {
    let log = place.open().await;
    fill(&log, 0, 3).await;
    let signer =
        Instance::new().certify("https://signer.example.test", "https://issuer.example.test");
    let (hash, details) = (HashAlgorithm::Sha256, KeyDetails::EcdsaP256Sha256);
    let verifier = Verifier::Certificate(signer.certificate());
    append(&log, &hashedrekord_v2_body(hash, &hash.digest(b"x"), b"s", verifier, details))
        .await
        .unwrap();
    for number in 4..7 {
        append(&log, &crate::support::body(number)).await.unwrap();
    }
    log.close().await;
    let reader =
        Reader::open(Arc::new(place.files()), &place.key(), Format::Entries).await.unwrap();
    let (mut writer, mut file) = Writer::begin(&place.key(), &(2..5), reader.head().note());
    for proven in &reader.prove_bundle(0).await.unwrap()[2..5] {
        file.push_str(&writer.entry(proven));
    }
    file.push_str(&writer.end());
    (file, signer.certificate().to_vec())
}

fn check(file: &[u8], key: &LogKey) -> Result<Vec<Evidence>, Error> {
    let text = std::str::from_utf8(file).map_err(|_| Error::Line { line: 0 })?;
    let mut lines = text.split_inclusive('\n');
    let known = |id: &[u8; 32], _: &str| (id == key.log_id()).then(|| key.clone());
    let mut check = Check::begin(lines.next().unwrap_or_default(), known)?;
    let mut entries = Vec::new();
    for line in lines {
        entries.extend(check.line(line)?);
    }
    check.finish()?;
    Ok(entries)
}

#[tokio::test]
async fn a_file_holds_whole_and_with_no_byte_changed_left_out_or_added() {
    let place = Place::new();
    let (file, certificate) = exported(&place).await;
    let (file, key) = (file.as_bytes(), place.key());
    let entries = check(file, &key).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(entries[0].body, crate::support::body(2));
    assert!(Certificate::parse(&certificate).is_ok());
    assert!(
        String::from_utf8_lossy(file)
            .contains(&format!("\"certificates\":[\"{}\"]", base64(&certificate)))
    );
    for place in 0..file.len() {
        let mut near = file.to_vec();
        for other in [near[place] ^ 1, b' ', b'0', b'"'] {
            if other != file[place] {
                near[place] = other;
                assert!(check(&near, &key).is_err(), "{place} {other}");
            }
        }
        assert!(check(&file[..place], &key).is_err(), "cut at {place}");
        let gap = [&file[..place], &file[place + 1..]].concat();
        assert!(check(&gap, &key).is_err(), "without {place}");
    }
    assert_eq!(check(&[file, b"\n"].concat(), &key), Err(Error::Continued));
}

#[tokio::test]
async fn lines_that_are_well_written_and_do_not_belong_are_refused_for_their_reason() {
    let place = Place::new();
    let (file, _) = exported(&place).await;
    let key = place.key();
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let swapped = [lines[0], lines[2], lines[1], lines[3], lines[4]].concat();
    let altered = |from: &str, to: &str| {
        let text = file.replacen(from, to, 1);
        assert_ne!(text, file, "{from}");
        text
    };
    let unsigned = altered("\\n7\\n", "\\n8\\n");
    for (file, expected) in [
        (swapped, Error::Order { expected: 2, found: 3 }),
        (lines[..3].concat(), Error::CutShort { next: 4 }),
        (lines[..4].concat(), Error::CutShort { next: 5 }),
        (altered("\"to\":5", "\"to\":8"), Error::Span { from: 2, to: 8, size: 7 }),
        (altered("\"from\":2", "\"from\":5"), Error::Span { from: 5, to: 5, size: 7 }),
        (
            altered("\"certificates\":[]", "\"certificates\":[\"AAAA\"]"),
            Error::Certificates { index: 2 },
        ),
        (altered("evidence/1", "evidence/2"), Error::Line { line: 1 }),
        (altered("{\"index\":3", "{ \"index\":3"), Error::Line { line: 3 }),
    ] {
        assert_eq!(check(file.as_bytes(), &key).unwrap_err(), expected);
    }
    assert!(matches!(check(unsigned.as_bytes(), &key), Err(Error::Checkpoint(_))));
    let other = check(file.as_bytes(), &Place::new().key()).unwrap_err();
    assert!(matches!(other, Error::UnknownLog { .. }), "{other}");
}
