//! Where the two verifiers disagree, and why. A rule is about an alteration, a place, and what the one
//! that refuses says; what fits none fails the test.

use crate::{Case, Verdict};

/// Who refuses what the other accepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    WeRefuse,
    TheyRefuse,
}

/// A disagreement and its reason.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) reason: &'static str,
    /// What the refusal says, in one of these ways.
    says: &'static [&'static str],
    applies: fn(&Step) -> bool,
}

/// One alteration.
struct Step<'a> {
    kind: &'a str,
    path: &'a str,
    /// Those of all that were made together.
    paths: &'a str,
    seed: &'a str,
    /// Whether the bundle's entry is of a Rekor v2 log.
    v2: bool,
    /// Whether the bundle is of generation 0.1.
    first: bool,
}

impl Step<'_> {
    fn is(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.kind)
    }

    fn ends(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.path.ends_with(path))
    }

    /// In the bundle's own JSON, not in what a member holds.
    fn outside(&self) -> bool {
        !self.path.contains('#')
    }
}

const ENTRY_SAYS: &[&str] = &["LOG_ENTRY_MISMATCH"];
const LOG_SAYS: &[&str] = &["CHECKPOINT_INVALID"];

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "one spelling of base64",
        side: Side::WeRefuse,
        reason: "clients write standard base64, padded; protobuf JSON lets readers take more, we want one text for the same bytes",
        says: &["expected standard base64 with padding"],
        applies: |step| step.outside() && step.is(&["URL alphabet", "unpadded"]),
    },
    Rule {
        name: "one spelling of numbers",
        side: Side::WeRefuse,
        reason: "no plus sign in protobuf JSON's numbers",
        says: &["expected a whole number"],
        applies: |step| step.is(&["plus sign"]),
    },
    Rule {
        name: "unknown members",
        side: Side::WeRefuse,
        reason: "what is not understood is refused; they ignore it",
        says: &["unknown field `surplus`"],
        applies: |step| step.outside() && step.is(&["surplus member"]),
    },
    Rule {
        name: "members twice",
        side: Side::WeRefuse,
        reason: "readers differ in which one counts; they take the last",
        says: &["duplicate field"],
        applies: |step| {
            step.is(&["twice", "twice, second differs"])
                && step.ends(&["Signature", "Envelope", "/certificate", "/x509CertificateChain"])
        },
    },
    Rule {
        name: "a list for a message",
        side: Side::WeRefuse,
        reason: "[] is no message without members; they read structures from lists",
        says: &["expected an object"],
        applies: |step| step.is(&["list"]) && step.ends(&["/timestampVerificationData"]),
    },
    Rule {
        name: "evidence twice",
        side: Side::WeRefuse,
        reason: "the client specification asks for distinct evidence where it is counted",
        says: &["repeats an earlier one"],
        applies: |step| {
            step.is(&["stamp/twice the same", "entry/two, the same"])
                || step.is(&["doubled", "first for all"])
                    && step.ends(&["/rfc3161Timestamps", "/tlogEntries"])
        },
    },
    Rule {
        name: "long lists",
        side: Side::WeRefuse,
        reason: "limits.rs bounds the work for one bundle; they have no bound",
        says: &["32 are read", "10 are read"],
        applies: |step| step.is(&["seventyfold", "stamp/forty"]),
    },
    Rule {
        name: "media type left out",
        side: Side::WeRefuse,
        reason: "the media type decides what must be there; they guess it",
        says: &["missing field `mediaType`"],
        applies: |step| step.is(&["removed"]) && step.path == "/mediaType",
    },
    Rule {
        name: "a chain before 0.3, one certificate since",
        side: Side::WeRefuse,
        reason: "sigstore_bundle.proto; they enforce the half about 0.3",
        says: &["carries a certificate chain, found a lone certificate"],
        applies: |step| {
            step.is(&["certificate/in 0.1 without chain", "certificate/in 0.2 without chain"])
                || step.is(&["other generation"]) && step.path == "/mediaType"
        },
    },
    Rule {
        name: "what stands in a chain is a certificate",
        side: Side::WeRefuse,
        reason: "a malformed one is refused wherever it is; they never look at those the path does not need",
        says: &["rawBytes is empty", "CERTIFICATE_MALFORMED"],
        applies: |step| {
            let kinds = ["empty text", "cut", "cut at random", "bit", "byte added", "capitals"];
            step.is(&kinds) && step.path.contains("/x509CertificateChain/certificates/1")
        },
    },
    Rule {
        name: "no root in a chain",
        side: Side::WeRefuse,
        reason: "trust anchors come from the trusted root (sigstore_bundle.proto); they ignore it",
        says: &["is issued by itself"],
        applies: |step| step.is(&["certificate/with its root in the chain"]),
    },
    Rule {
        name: "every entry has its proof",
        side: Side::WeRefuse,
        reason: "sigstore_bundle.proto, since 0.2; they want one entry with a proof",
        says: &["expected an inclusion proof with a checkpoint, found none"],
        applies: |step| {
            step.seed.contains("both logs")
                && step.is(&["removed", "null"])
                && step.ends(&["/inclusionProof"])
        },
    },
    Rule {
        name: "message digest left out",
        side: Side::WeRefuse,
        reason: "the client specification's bundles name the digest that was signed",
        says: &["missing field `messageDigest`", "expected an object"],
        applies: |step| {
            step.is(&["removed", "null"]) && step.path == "/messageSignature/messageDigest"
        },
    },
    Rule {
        name: "names of other vocabularies for a hash",
        side: Side::WeRefuse,
        reason: "the bundle's enumeration says SHA2_256; `sha256` is Rekor v1's",
        says: &["expected SHA2_256, SHA2_384 or SHA2_512"],
        applies: |step| step.is(&["other word"]) && step.ends(&["/messageDigest/algorithm"]),
    },
    Rule {
        name: "Rekor v2 gives no time",
        side: Side::WeRefuse,
        reason: "an integrated time that nothing signs must not be there; they ignore it",
        says: &["neither integrated time nor promise", "expected a whole number"],
        applies: |step| step.v2 && step.ends(&["/integratedTime"]),
    },
    Rule {
        name: "the proof repeats its checkpoint",
        side: Side::WeRefuse,
        reason: "index, size and root that contradict the signed ones are refused; they ignore them",
        says: &["INCLUSION_INVALID: the inclusion proof's"],
        applies: |step| {
            let members = [
                "/inclusionProof/logIndex",
                "/inclusionProof/treeSize",
                "/inclusionProof/rootHash",
            ];
            step.ends(&members)
        },
    },
    Rule {
        name: "the log ID names the log",
        side: Side::WeRefuse,
        reason: "the log is chosen by its ID, then signs the checkpoint; they take any log that signed it",
        says: &["LOG_UNKNOWN", "logId.keyId: expected 32 bytes"],
        applies: |step| {
            // Where a promise is there, the ID chooses its key for them too.
            let unpromised = step.v2
                || step.seed.contains("without promise")
                || step.paths.contains("/inclusionPromise");
            unpromised && step.ends(&["/logId", "/logId/keyId"])
        },
    },
    Rule {
        name: "the origin names the log",
        side: Side::WeRefuse,
        reason: "a checkpoint is of the log that its origin and its signature line name (C2SP); they compare the key ID alone",
        says: LOG_SAYS,
        applies: |step| {
            let cases = [
                "origin of another log",
                "origin with a suffix",
                "origin in capitals",
                "signature under another name",
                "origin and name of another log",
            ];
            step.kind.strip_prefix("head/v2/").is_some_and(|case| cases.contains(&case))
                || step.kind.strip_prefix("head/v1/").is_some_and(|case| cases.contains(&case))
        },
    },
    Rule {
        name: "the signature line names the log",
        side: Side::WeRefuse,
        reason: "a bit of the name before the signature: another key's line (C2SP); they compare the key ID alone",
        says: &["CHECKPOINT_INVALID: expected a signature by", "is not `\u{2014} name base64`"],
        applies: |step| step.is(&["note: bit"]),
    },
    Rule {
        name: "the note's form",
        side: Side::WeRefuse,
        reason: "C2SP signed notes: one blank line, each line ends in a line feed, nothing after; they trim",
        says: &["expected signature lines that end in a line feed", "has an empty extension line"],
        applies: |step| {
            let kinds = [
                "note: last line break removed",
                "note: bit",
                "note: line twice",
                "space added",
                "line break added",
            ];
            step.is(&kinds) && step.ends(&["/checkpoint/envelope"])
        },
    },
    Rule {
        name: "the logged body names its kind",
        side: Side::WeRefuse,
        reason: "body and entry name one kind and version; they read the entry's alone",
        says: ENTRY_SAYS,
        applies: |step| step.kind.starts_with("logged: ") && step.ends(&["#/kind", "#/apiVersion"]),
    },
    Rule {
        name: "the logged body byte for byte",
        side: Side::WeRefuse,
        reason: "logs write canonical JSON, so the body is made again and compared whole; they read members",
        says: ENTRY_SAYS,
        applies: |step| {
            let spelling = ["spaced", "surplus member", "twice", "URL alphabet", "unpadded"];
            let inner = step.kind.strip_prefix("logged: ").filter(|_| !step.outside());
            step.is(&["entry/body with a line break"])
                || inner.is_some_and(|kind| {
                    spelling.contains(&kind)
                        || kind == "capitals" && step.ends(&["ash/algorithm", "ash/value"])
                        || kind == "other word" && step.ends(&["/hashedRekordV002/data/algorithm"])
                })
        },
    },
    Rule {
        name: "the logged PEM",
        side: Side::WeRefuse,
        reason: "the certificate's PEM is compared as the log keeps it; they skip text around it",
        says: ENTRY_SAYS,
        applies: |step| {
            let kinds = ["logged: bit", "logged: cut", "logged: byte added"];
            step.is(&kinds) && step.ends(&["/publicKey/content", "/verifier", "/publicKey"])
        },
    },
    Rule {
        name: "the logged envelope's hash has a form",
        side: Side::WeRefuse,
        reason: "nobody can check the hash of an envelope as it was sent, but it is one; they never read it",
        says: ENTRY_SAYS,
        applies: |step| {
            step.kind.starts_with("logged: ") && step.ends(&["#/spec/envelopeHash/value"])
        },
    },
    Rule {
        name: "key usage",
        side: Side::WeRefuse,
        reason: "RFC 5280, section 4.2.1.3: digitalSignature, where key usage is there; webpki does not look",
        says: &["key usage does not allow"],
        applies: |step| step.is(&["certificate/another usage"]),
    },
    Rule {
        name: "somebody signed",
        side: Side::WeRefuse,
        reason: "a certificate that names nobody can satisfy no policy; theirs was asked for no identity",
        says: &["expected a subject alternative name"],
        applies: |step| step.is(&["certificate/no name"]),
    },
    Rule {
        name: "a bare token",
        side: Side::WeRefuse,
        reason: "the bundle's member is a TimeStampResp (RFC 3161); they also take the token in it",
        says: &["TimeStampResp is malformed"],
        applies: |step| step.is(&["stamp/the token alone"]),
    },
    Rule {
        name: "certificates in a timestamp",
        side: Side::WeRefuse,
        reason: "where there are any, the trusted one is among them; they never look at them",
        says: &["the timestamp names another certificate"],
        applies: |step| {
            ["old spelling", "with a timestamp"].iter().any(|name| step.seed.contains(name))
                && step.is(&["bit"])
                && step.ends(&["/signedTimestamp"])
        },
    },
    Rule {
        name: "what no signature covers in a timestamp",
        side: Side::WeRefuse,
        reason: "a bit in versions and algorithm identifiers: all is read and compared; they read some of it",
        says: &[
            "found hash function",
            "expected SignedData of version",
            "expected SignerInfo of version",
            "announces another hash function",
            "AlgorithmIdentifier is malformed",
            "encapContentInfo is malformed",
            "is not accepted for this key",
            // ecdsa-with-SHA384 for a signature with SHA-256.
            "the signature was not made",
        ],
        applies: |step| step.is(&["bit"]) && step.ends(&["/signedTimestamp"]),
    },
    Rule {
        name: "a predicate is an object",
        side: Side::WeRefuse,
        reason: "in-toto's statement, and what sigstore-go reads it into; they take any JSON",
        says: &["expected an object"],
        applies: |step| step.is(&["statement/predicate a text"]),
    },
    Rule {
        name: "statement version",
        side: Side::WeRefuse,
        reason: "in-toto v2 does not exist, so nobody knows what its subjects mean",
        says: &["STATEMENT_MALFORMED"],
        applies: |step| step.is(&["statement/of version 2"]),
    },
    Rule {
        name: "several receipts",
        side: Side::TheyRefuse,
        reason: "RFC 6962 certificates carry a list; they expect exactly one",
        says: &["certificate contains multiple SCTs"],
        applies: |step| {
            step.is(&[
                "certificate/two receipts",
                "certificate/the same receipt twice",
                "certificate/a receipt and one of another log",
                "certificate/a receipt of another log and one",
            ])
        },
    },
    Rule {
        name: "null is absent",
        side: Side::TheyRefuse,
        reason: "protobuf JSON: null is a field's default",
        says: &["invalid type: null"],
        applies: |step| step.outside() && step.is(&["null"]),
    },
    Rule {
        name: "enumerations by number",
        side: Side::TheyRefuse,
        reason: "protobuf JSON: readers take names and numbers",
        says: &["invalid type: integer `1`, expected a string"],
        applies: |step| step.is(&["number"]) && step.ends(&["/messageDigest/algorithm"]),
    },
    Rule {
        name: "Rekor v2's proof without copies",
        side: Side::TheyRefuse,
        reason: "root and size are in the signed checkpoint, whose copies we use; they want the members, then ignore them",
        says: &["missing field `rootHash`", "missing field `treeSize`"],
        applies: |step| {
            step.v2
                && step.is(&["removed"])
                && step.ends(&["/inclusionProof/rootHash", "/inclusionProof/treeSize"])
        },
    },
    Rule {
        name: "a promise suffices in 0.1",
        side: Side::TheyRefuse,
        reason: "generation 0.1 is about promises, its proofs have no checkpoints; they want one with every proof",
        says: &[
            "inclusion proof has no checkpoint",
            "missing field `rootHash`",
            "expected struct WireCheckpointData",
        ],
        applies: |step| {
            step.first
                && step.ends(&[
                    "/inclusionProof",
                    "/inclusionProof/checkpoint",
                    "/checkpoint/envelope",
                ])
        },
    },
    Rule {
        name: "timestamps of unknown authorities",
        side: Side::TheyRefuse,
        reason: "passed over where another trusted time is there, as sigstore-go and sigstore-python do",
        says: &["TSA timestamp verification failed"],
        applies: |step| {
            // A bit in the signer's name makes it an unknown one.
            let another_time = ["two stamps, Rekor v2", "0.3 message, Rekor v1 with a timestamp"]
                .contains(&step.seed);
            step.is(&[
                "stamp/of another instance beside a promise",
                "stamp/of another instance, then own",
                "stamp/own, then of another instance",
            ]) || another_time
                && step.is(&["stranger's", "bit"])
                && step.path.contains("/timestampVerificationData")
        },
    },
    Rule {
        name: "revocations in a timestamp",
        side: Side::TheyRefuse,
        reason: "RFC 5652 has a list of them beside the certificates, which no signature covers: passed over; they read it, and a bit makes it out of the certificates",
        says: &["expected INTEGER, got CONTEXT-SPECIFIC [0] (constructed)"],
        applies: |step| {
            step.seed.contains("embedded certificate")
                && step.is(&["bit"])
                && step.ends(&["/signedTimestamp"])
        },
    },
    Rule {
        name: "entries of unknown logs",
        side: Side::TheyRefuse,
        reason: "passed over where an entry of a trusted log is there, as sigstore-go does",
        says: &["No matching Rekor key found", "unsupported Rekor entry format"],
        applies: |step| {
            step.is(&["entry/two, one of another instance"])
                || step.seed.contains("both logs")
                    && (step.is(&["stranger's"]) && step.ends(&["/tlogEntries/1"])
                        || step.ends(&["/logId", "/logId/keyId"]))
        },
    },
    Rule {
        name: "what an entry of an unknown log says",
        side: Side::TheyRefuse,
        reason: "such an entry is passed over, and nothing of it is read; they check its proof first",
        says: &["invalid inclusion proof", "Invalid checkpoint format"],
        applies: |step| {
            // All of it in the one entry that names another log.
            let entry = step.path.split("/logId").next().unwrap_or_default();
            step.is(&["entry/two, one of another instance and damaged"])
                || step.seed.contains("both logs")
                    && step.ends(&["/logId", "/logId/keyId"])
                    && step.paths.split(" + ").all(|path| path.starts_with(entry))
        },
    },
    Rule {
        name: "an obsolete kind",
        side: Side::TheyRefuse,
        reason: "dsse 0.0.2 was in Rekor v2 for a while and its entries stay; they know hashedrekord alone",
        says: &["unsupported Rekor entry format: dsse/0.0.2"],
        applies: |step| {
            step.seed.contains("obsolete dsse")
                || step.kind.starts_with("key/") && step.kind.contains("obsolete dsse")
        },
    },
    Rule {
        name: "an attestation by its digest in Rekor v1",
        side: Side::TheyRefuse,
        reason: "the client specification has it, and the conformance suite; they want an entry about the envelope",
        says: &["Rekor entry hashedrekord/0.0.1 is incompatible with a DSSE envelope"],
        applies: |step| {
            let shape = "0.3 statement, hashedrekord of Rekor v1";
            step.seed == shape || step.kind.starts_with("key/") && step.kind.ends_with(shape)
        },
    },
    Rule {
        name: "P-521",
        side: Side::TheyRefuse,
        reason: "in the registry of algorithms (algorithm-registry.md); their certificates end at P-384",
        says: &["unsupported or invalid EC curve"],
        applies: |step| step.kind.starts_with("key/EcdsaP521"),
    },
    Rule {
        name: "hashed entries of other keys",
        side: Side::TheyRefuse,
        reason: "in the registry of algorithms; their entries are of SHA-256, in Rekor v2 of P-256 too",
        says: &["failed to parse hashedrekord v0", "SHA-256 hash must be 32 bytes"],
        applies: |step| {
            step.kind.starts_with("key/EcdsaP384") || step.kind.starts_with("key/Rsa2048")
        },
    },
    Rule {
        name: "other ways for a key to sign",
        side: Side::TheyRefuse,
        reason: "in the registry of algorithms; they know one way for each kind of key",
        says: &["signature verification failed"],
        applies: |step| {
            ["key/EcdsaP384Sha256/", "key/RsaPss2048Sha256/", "key/Ed25519Ph/"]
                .iter()
                .any(|key| step.kind.starts_with(key))
        },
    },
    Rule {
        name: "the client's hash in an intoto entry",
        side: Side::TheyRefuse,
        reason: "optional in the log's schema, and compared by nobody",
        says: &["failed to parse intoto"],
        applies: |step| {
            step.is(&["logged: removed", "logged: null"]) && step.ends(&["#/spec/content/hash"])
        },
    },
];

/// The rule for a disagreement, if there is one.
pub(crate) fn listed(case: &Case, ours: &Verdict, theirs: &Verdict) -> Option<&'static Rule> {
    let (side, message) = match (ours, theirs) {
        (Err(message), Ok(())) => (Side::WeRefuse, message),
        (Ok(()), Err(message)) => (Side::TheyRefuse, message),
        _ => return None,
    };
    let several = case.kind.strip_prefix("several: ");
    let kinds: Vec<_> =
        several.map_or(vec![case.kind.as_str()], |kinds| kinds.split(" + ").collect());
    let steps = kinds.into_iter().zip(case.path.split(" + ")).map(|(kind, path)| Step {
        kind,
        path,
        paths: &case.path,
        seed: case.seed,
        v2: ["Rekor v2", "old spelling"].iter().any(|name| case.seed.contains(name))
            || case.seed.contains("both logs") && path.contains("/tlogEntries/1"),
        first: case.seed.starts_with("0.1") || case.json.contains("version=0.1"),
    });
    let steps: Vec<_> = steps.collect();
    RULES.iter().find(|rule| {
        rule.side == side
            && rule.says.iter().any(|text| message.contains(text))
            && steps.iter().any(rule.applies)
    })
}
