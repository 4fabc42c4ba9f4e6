//! What fuzzing begins with: the parts of the fixed instance, and small examples by hand.

use crate::fixed::{BUNDLES, CONFIGURATION, IDENTITIES, ROOT, inputs};
use countersign_verify::assertion::Assertion;
use countersign_verify::bundle::{Bundle, Content};
use countersign_verify::certificate::{Certificate, SCT_LIST};
use countersign_verify::simple_signing::Payload;
use countersign_verify::tile::encode_entries;

/// Two levels of groups over keys of nobody.
pub const POLICY: &str = "# a policy
log log.example.test+af1bd9d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 https://log.example.test
witness A witness.example.test+9ac572ef+BCFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS https://witness.example.test
group inner any A
group outer 1 inner
quorum outer
";

/// By a key that nobody kept.
const SIGNING_REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\nMIHKMHECAQAwDzENMAsGA1UEAwwEc2VlZDBZMBMGByqGSM49AgEGCCqGSM49AwEH\nA0IABPI9keWiGAhgytzrkb/TU+EdMgsoNQMZ1yYAazSHp6YKnNjcn7vOaaSj7bj1\n+NGgXcBqQ5kueqj9gKwLZsUhMiOgADAKBggqhkjOPQQDAgNJADBGAiEAlItWXHLS\nGkKk3n6KLYBcU9VmIwnVF4m4jel+5i5kqUoCIQDsdwR6+weGB/Kad+DI+d1vidvl\n/ps+D3ADWIGTAr2DfA==\n-----END CERTIFICATE REQUEST-----\n";

/// SHA-256 of nothing, with nonce, and the certificate asked for.
const TIMESTAMP_QUERY: &[u8] = b"\x30\x44\x02\x01\x01\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55\x02\x09\x00\xff\x87\x20\x20\xf2\x0a\x7b\x5f\x01\x01\xff";

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
        "assertion" => {
            let artifact = r#"{"digest":"sha256:aa","kind":"image","name":"r.example/app:v1"}"#;
            let json = format!(
                r#"{{"intent":{{"action":"sign","artifact":{artifact}}},"policy":"p","policyDigest":"","roles":["r"],"serial":1}}"#
            );
            let assertion: Assertion = serde_json::from_str(&json).expect("an assertion");
            vec![assertion.to_value().expect("a short one")]
        }
        "bundle" => {
            let mut seeds: Vec<Vec<u8>> = texts(&BUNDLES);
            seeds.extend(entries().map(|entry| entry.to_json().into_bytes()));
            seeds
        }
        "certificate" => certificates(),
        "entry" => entries().map(|entry| entry.body.clone()).collect(),
        "note" => {
            let mut seeds: Vec<Vec<u8>> = texts(&[
                "log.example.test\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nan extension\n\n\u{2014} log.example.test AAAAAAAA\n\u{2014} witness.example.test AAAAAAAA\n",
            ]);
            let proofs = entries().filter_map(|entry| entry.proof.as_ref());
            seeds.extend(proofs.map(|proof| proof.checkpoint.clone().into_bytes()));
            seeds
        }
        "policy" => texts(&[
            include_str!("../../policy/tests/policies/acme-apps.yaml"),
            include_str!("../../policy/tests/policies/prod-cluster.yaml"),
        ]),
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
        "simple_signing" => {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let annotations = [("build".to_owned(), "7".to_owned())].into();
            let payload = Payload { digest, name: "r.example/app".to_owned(), annotations };
            vec![payload.to_json()]
        }
        "statement" => {
            let payloads = bundles.iter().filter_map(|bundle| match bundle.content() {
                Content::Dsse(envelope) => Some(envelope.payload.to_vec()),
                Content::Message(_) => None,
            });
            payloads.collect()
        }
        "fulcio_config" => texts(&[CONFIGURATION]),
        "identity_token" => {
            let claims = IDENTITIES.map(|text| {
                let case: serde_json::Value = serde_json::from_str(text).expect("a vector");
                case["claims"].to_string().into_bytes()
            });
            claims.to_vec()
        }
        "signing_request" => texts(&[SIGNING_REQUEST]),
        "template" => texts(&[
            "{{ .url }}/{{ .path }}",
            "refs/{{if eq .ref_type \"branch\"}}heads/{{ else }}tags/{{end}}{{ .ref }}",
            "{{if eq (index . \"a/b\") \"true\"}}c{{end}}",
        ]),
        "timestamp_query" => vec![TIMESTAMP_QUERY.to_vec()],
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
        // The last one's content is in pieces, and the last roots have chains of three, and an authority that is unfit.
        "timestamp" => {
            let pieces = include_bytes!("../../testdata/wild/pieces.sigstore.json");
            let pieces = Bundle::parse(pieces).expect("a bundle");
            bundles.iter().chain([&pieces]).flat_map(Bundle::timestamps).cloned().collect()
        }
        "trusted_root" => texts(&[
            ROOT,
            include_str!("../../testdata/wild/github.trusted_root.json"),
            include_str!("../../testdata/wild/other-certificate-log.trusted_root.json"),
        ]),
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
