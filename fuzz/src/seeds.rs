//! What fuzzing begins with: the parts of the fixed instance, and small examples by hand.

use crate::fixed::{BUNDLES, ROOT, inputs};
use countersign_verify::bundle::{Bundle, Content};
use countersign_verify::certificate::{Certificate, SCT_LIST};
use countersign_verify::tile::encode_entries;

/// Two levels of groups over keys of nobody.
pub const POLICY: &str = "# a policy
log log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 https://log.example.test
witness A witness.example.test+9ac572ef+BCFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS https://witness.example.test
group inner any A
group outer 1 inner
quorum outer
";

/// The seeds of one target.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let bundles = BUNDLES.map(|text| Bundle::parse(text.as_bytes()).expect("a bundle"));
    let entries = || bundles.iter().flat_map(Bundle::entries);
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let certificates = || {
        let signers = bundles.iter().filter_map(|bundle| Some(bundle.certificate()?.to_vec()));
        signers.collect::<Vec<_>>()
    };
    match target {
        "bundle" => {
            let mut seeds: Vec<Vec<u8>> = texts(&BUNDLES);
            seeds.extend(entries().map(|entry| entry.to_json().into_bytes()));
            seeds
        }
        "certificate" => certificates(),
        "note" => {
            let mut seeds: Vec<Vec<u8>> = texts(&[
                "log.example.test\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nan extension\n\n\u{2014} log.example.test AAAAAAAA\n\u{2014} witness.example.test AAAAAAAA\n",
            ]);
            let proofs = entries().filter_map(|entry| entry.proof.as_ref());
            seeds.extend(proofs.map(|proof| proof.checkpoint.clone().into_bytes()));
            seeds
        }
        "review" => texts(&[
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","kind":{"group":"apps","version":"v1","kind":"Deployment"},"resource":{"group":"apps","version":"v1","resource":"deployments"},"operation":"UPDATE","object":{"spec":{"template":{"spec":{"initContainers":[{"image":"a/b~c:1"}],"containers":[{"image":"a"}],"volumes":[{"image":{"reference":"d"}}]}}}},"oldObject":{"spec":{"template":{"spec":{"containers":[{"image":"a"}]}}}}}}"#,
        ]),
        "sct" => {
            let lists = certificates().into_iter().filter_map(|der| {
                let certificate = Certificate::parse(&der).expect("a certificate");
                certificate.extension(SCT_LIST).map(|list| list.value.clone())
            });
            lists.collect()
        }
        "statement" => {
            let payloads = bundles.iter().filter_map(|bundle| match bundle.content() {
                Content::Dsse(envelope) => Some(envelope.payload.clone()),
                Content::Message(_) => None,
            });
            payloads.collect()
        }
        "tile" => {
            let mut seeds = texts(&[
                "tile/0/000",
                "tile/0/x001/x234/067.p/9",
                "tile/5/x123/000.p/255",
                "tile/entries/x001/067",
                "tile/entries/x001/x234/067.p/1",
            ]);
            seeds.push(encode_entries([&b"one"[..], b"two", b""]));
            seeds.push(encode_entries(entries().map(|entry| entry.body.as_slice())));
            seeds
        }
        "timestamp" => bundles.iter().flat_map(Bundle::timestamps).cloned().collect(),
        "trusted_root" => texts(&[ROOT]),
        "verifier_key" => texts(&[
            "log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
            "witness.example.test+9ac572ef+BCFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS",
        ]),
        "verify" => inputs(),
        "witness" => {
            let proofs = entries().filter_map(|entry| entry.proof.as_ref());
            let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
            let request = |note: &str| format!("old 20\n{hash}{hash}\n{note}").into_bytes();
            let mut seeds: Vec<_> = proofs.map(|proof| request(&proof.checkpoint)).collect();
            seeds.push(POLICY.into());
            seeds.push(b"logs/v0\n\nvkey log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4\norigin other\nqpd 24\n".into());
            seeds
        }
        _ => vec![],
    }
}
