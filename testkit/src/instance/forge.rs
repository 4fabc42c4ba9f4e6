//! The parts of a bundle one by one, genuine but for what the caller changes: each is signed after the
//! change, so what refuses it is not a broken signature.

use super::*;

/// A tree head before the log signs it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The first line.
    pub origin: String,
    /// Leaves in the tree; the proof says the same.
    pub size: u64,
    /// The root; the proof says the same.
    pub root: Hash,
    /// Lines after the root, each with its newline.
    pub extensions: String,
    /// The name on the signature's line.
    pub name: String,
    /// When a Rekor v1 log says that it took the entry, seconds since the epoch.
    pub integrated: i64,
}

/// What a signing certificate is to say.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The kind of key.
    pub key: KeyDetails,
    /// When it begins to be valid.
    pub not_before: Timestamp,
    /// How long it is valid, in seconds.
    pub seconds: i64,
    /// Extended key usages.
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    /// Key usages.
    pub usages: Vec<KeyUsagePurpose>,
    /// Whether it is a CA's.
    pub authority: bool,
    /// The URIs it names.
    pub uris: Vec<String>,
    /// The receipts in it; none leaves the extension out.
    pub receipts: Vec<Receipt>,
}

/// A certificate log's receipt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receipt {
    /// As the log gives it.
    Genuine,
    /// Of a log that nobody trusts.
    OtherLog,
    /// Under the log's ID, signed by another key.
    Forged,
    /// Over a certificate of another issuer.
    OtherIssuer,
    /// Signed, for another certificate.
    OtherCertificate,
    /// From this long before `now`, in hours.
    Hours(i64),
    /// Without the leaf index that static CT logs add.
    WithoutIndex,
}

/// A certificate that a timestamp names by its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    /// None.
    Nothing,
    /// The authority's, by SHA-256, which goes without saying.
    Sha256,
    /// The authority's, by SHA-512.
    Sha512,
    /// Another one.
    Another,
}

/// What a timestamp is to say.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The time in it.
    pub time: Timestamp,
    /// Whether the authority's certificate is in it.
    pub certificates: bool,
    /// Whether its imprint is of something else.
    pub other_imprint: bool,
    /// Which certificate the signed attributes name.
    pub names: Named,
    /// Whether the signer is told by another serial number than the certificate's.
    pub other_serial: bool,
    /// Whether the signer is told by another issuer than the certificate's.
    pub other_issuer: bool,
    /// A key identifier that tells the signer instead, and the tag it comes under.
    pub key_id: Option<(u8, Vec<u8>)>,
    /// Of the two attributes that must be signed, the one to leave out: 0 content type, 1 digest.
    pub without: Option<usize>,
    /// The time as it is written, if not as that above.
    pub time_text: Option<String>,
    /// The signature's algorithm, and whether its parameters are NULL; ECDSA with SHA-256 has none.
    pub algorithm: (&'static [u32], bool),
    /// Whether the digest among the signed attributes is that of other content.
    pub other_content: bool,
    /// The response's status; 0 is granted.
    pub status: u8,
    /// A nonce, as a client may ask for one.
    pub nonce: bool,
    /// An extension of its content, and whether it is critical.
    pub extension: Option<bool>,
    /// A list of revoked certificates beside the certificates.
    pub revocations: bool,
    /// Makes its content, DER, to what stands for it.
    pub content: fn(&[u8]) -> Vec<u8>,
}

impl Instance {
    /// [`certify`](Self::certify), with what `change` changes.
    #[must_use]
    pub fn certify_with(&self, uri: &str, issuer: &str, change: impl FnOnce(&mut Leaf)) -> Signer {
        let mut wanted = Leaf {
            key: KeyDetails::EcdsaP256Sha256,
            not_before: self.now,
            seconds: 600,
            purposes: vec![ExtendedKeyUsagePurpose::CodeSigning],
            usages: vec![KeyUsagePurpose::DigitalSignature],
            authority: false,
            uris: vec![uri.to_owned()],
            receipts: vec![Receipt::Genuine],
        };
        change(&mut wanted);
        let key = SigningKey::generate(wanted.key);
        let spki = rcgen::SubjectPublicKeyInfo::from_der(&key.spki()).unwrap();
        let mut leaf = params(wanted.not_before, wanted.seconds);
        leaf.key_usages = wanted.usages;
        leaf.extended_key_usages = wanted.purposes;
        leaf.use_authority_key_identifier_extension = true;
        if wanted.authority {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let uris = wanted.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap()));
        leaf.subject_alt_names = uris.collect();
        let fulcio = |number, value| {
            CustomExtension::from_oid_content(&[&FULCIO[..], &[number]].concat(), value)
        };
        leaf.custom_extensions = vec![
            fulcio(1, issuer.as_bytes().to_vec()),
            fulcio(8, tlv(0x0c, issuer.as_bytes())),
            fulcio(12, tlv(0x0c, b"https://git.example.test/acme/widget")),
        ];
        if !wanted.receipts.is_empty() {
            // What the log signs is this certificate's body, before the receipts are added to it.
            let unlogged = leaf.signed_by(&spki, &self.issuer).unwrap();
            let body = Certificate::parse(unlogged.der()).unwrap();
            let receipts: Vec<_> =
                wanted.receipts.iter().map(|&receipt| self.receipt(receipt, body.tbs())).collect();
            let list =
                CustomExtension::from_oid_content(&SCT_LIST[..10], list_extension(&receipts));
            leaf.custom_extensions.push(list);
        }
        let certificate = leaf.signed_by(&spki, &self.issuer).unwrap().der().to_vec();
        Signer { certificate: Some(certificate), key }
    }

    fn receipt(&self, receipt: Receipt, tbs: &[u8]) -> Sct {
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let log_id = |key: &KeyPair| *Hash::of(&key.subject_public_key_info()).as_bytes();
        let (named, key) = match receipt {
            Receipt::OtherLog => (&other, &other),
            Receipt::Forged => (&self.certificate_log, &other),
            _ => (&self.certificate_log, &self.certificate_log),
        };
        let hours = if let Receipt::Hours(hours) = receipt { hours } else { 0 };
        let time = self.now - jiff::SignedDuration::from_hours(hours);
        let timestamp = u64::try_from(time.as_millisecond()).unwrap();
        let issuer = match receipt {
            Receipt::OtherIssuer => other.subject_public_key_info(),
            _ => self.issuer.key().subject_public_key_info(),
        };
        let extensions = match receipt {
            Receipt::WithoutIndex => vec![],
            _ => vec![0, 0, 5, 0, 0, 0, 0, 7],
        };
        let mut tbs = tbs.to_vec();
        if receipt == Receipt::OtherCertificate {
            *tbs.last_mut().unwrap() ^= 1;
        }
        let signed =
            precert_signed_data(timestamp, Hash::of(&issuer).as_bytes(), &tbs, &extensions);
        let signature = rcgen::SigningKey::sign(key, &signed).unwrap();
        Sct { log_id: log_id(named), timestamp, extensions, algorithm: SHA256_ECDSA, signature }
    }

    /// [`log_v1`](Self::log_v1), with what `change` changes.
    #[must_use]
    pub fn log_v1_with(&self, body: Vec<u8>, change: impl FnOnce(&mut Head)) -> LogEntry {
        let log_id = *Hash::of(&self.v1_log.subject_public_key_info()).as_bytes();
        let sign = |message: &[u8]| rcgen::SigningKey::sign(&self.v1_log, message).unwrap();
        let origin = format!("{V1_HOST} - 1234567890");
        let (proof, head) = self.head(&body, origin, V1_HOST, log_id, &sign, change);
        let (index, time) = (V1_EARLIER + 2, head.integrated);
        // RFC 8785 by another hand than the verifier's: plain texts, members in order.
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"{}","logIndex":{index}}}"#,
            base64(&body),
            countersign_verify::encoding::hex(&log_id),
        );
        LogEntry {
            log_index: index,
            log_id,
            kind: "hashedrekord".to_owned(),
            version: "0.0.1".to_owned(),
            integrated_time: time,
            promise: Some(sign(promised.as_bytes())),
            proof: Some(proof),
            body,
        }
    }

    /// [`log`](Self::log), with what `change` changes.
    #[must_use]
    pub fn log_with(&self, body: Vec<u8>, change: impl FnOnce(&mut Head)) -> LogEntry {
        let sign = |message: &[u8]| self.log.sign(message).as_ref().to_vec();
        let (proof, _) = self.head(&body, HOST.to_owned(), HOST, self.log_id(), &sign, change);
        LogEntry {
            log_index: 2,
            log_id: self.log_id(),
            kind: "hashedrekord".to_owned(),
            version: "0.0.2".to_owned(),
            integrated_time: 0,
            promise: None,
            proof: Some(proof),
            body,
        }
    }

    fn head(
        &self,
        body: &[u8],
        origin: String,
        name: &str,
        log_id: [u8; 32],
        sign: &dyn Fn(&[u8]) -> Vec<u8>,
        change: impl FnOnce(&mut Head),
    ) -> (Proof, Head) {
        let (left, root) = tree(body);
        let integrated = self.now.as_second() + 60;
        let (name, extensions) = (name.to_owned(), String::new());
        let mut head = Head { origin, size: 3, root, extensions, name, integrated };
        change(&mut head);
        let text = format!("{}\n{}\n{}\n{}", head.origin, head.size, head.root, head.extensions);
        let signature = note::Signature {
            name: head.name.clone(),
            key_id: log_id[..4].try_into().unwrap(),
            signature: sign(text.as_bytes()),
        };
        let proof = Proof {
            log_index: 2,
            tree_size: head.size,
            root: Some(head.root),
            hashes: vec![left],
            checkpoint: Note::new(text, vec![signature]).unwrap().to_string(),
        };
        (proof, head)
    }

    /// [`timestamp`](Self::timestamp), with what `change` changes.
    #[must_use]
    pub fn stamp(&self, signed: &[u8], change: impl FnOnce(&mut Stamp)) -> Vec<u8> {
        let mut stamp = Stamp {
            time: self.stamped(),
            certificates: false,
            other_imprint: false,
            names: Named::Sha256,
            other_serial: false,
            other_issuer: false,
            key_id: None,
            without: None,
            time_text: None,
            algorithm: (&[1, 2, 840, 10045, 4, 3, 2], false),
            other_content: false,
            status: 0,
            nonce: false,
            extension: None,
            revocations: false,
            content: |info| tlv(4, info),
        };
        change(&mut stamp);
        let sha256 = sequence(&[&oid(&SHA256), &[5, 0]]);
        let digest = |bytes: &[u8]| tlv(4, &HashAlgorithm::Sha256.digest(bytes));
        let time = stamp.time.strftime("%Y%m%d%H%M%SZ").to_string();
        let time = stamp.time_text.unwrap_or(time);
        let imprint = if stamp.other_imprint { digest(b"something else") } else { digest(signed) };
        let nonce = if stamp.nonce { tlv(2, &[0x45]) } else { vec![] };
        let extension = stamp.extension.map(|critical| {
            let critical = if critical { tlv(1, &[0xff]) } else { vec![] };
            tlv(
                0xa1,
                &sequence(&[&oid(&[1, 3, 6, 1, 4, 1, 57264, 99]), &critical, &tlv(4, &[5, 0])]),
            )
        });
        let info = sequence(&[
            &tlv(2, &[1]),
            &oid(&[1, 3, 6, 1, 4, 1, 57264, 2]),
            &sequence(&[&sha256, &imprint]),
            &tlv(2, &[0x01, 0x23, 0x45]),
            &tlv(0x18, time.as_bytes()),
            &sequence(&[&tlv(2, &[1])]),
            &nonce,
            &extension.unwrap_or_default(),
        ]);
        let content_type = oid(&[1, 2, 840, 113549, 1, 9, 16, 1, 4]);
        let attribute = |arcs: &[u32], value: &[u8]| sequence(&[&oid(arcs), &set(&[value])]);
        let sha512 = sequence(&[&oid(&[2, 16, 840, 1, 101, 3, 4, 2, 3])]);
        let named = match stamp.names {
            Named::Nothing => None,
            Named::Sha256 => Some(digest(&self.timestamp_certificate)),
            Named::Sha512 => {
                let digest = HashAlgorithm::Sha512.digest(&self.timestamp_certificate);
                Some([sha512, tlv(4, &digest)].concat())
            }
            Named::Another => Some(digest(&self.issuer_certificate)),
        };
        let content = if stamp.other_content { digest(b"other content") } else { digest(&info) };
        let mut attributes = vec![
            attribute(&[1, 2, 840, 113549, 1, 9, 3], &content_type),
            attribute(&[1, 2, 840, 113549, 1, 9, 4], &content),
        ];
        if let Some(place) = stamp.without {
            attributes.remove(place);
        }
        if let Some(named) = named {
            let named = sequence(&[&sequence(&[&sequence(&[&named])])]);
            attributes.push(attribute(&[1, 2, 840, 113549, 1, 9, 16, 2, 47], &named));
        }
        let attributes = set(&attributes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let signature = rcgen::SigningKey::sign(&self.timestamp_key, &attributes).unwrap();
        let certificate = Certificate::parse(&self.timestamp_certificate).unwrap();
        // It is by the root, and so names that as its issuer; its subject is another name.
        let issuer = if stamp.other_issuer { certificate.subject() } else { certificate.issuer() };
        let serial = if stamp.other_serial { &[0x45][..] } else { certificate.serial() };
        let (version, id) = match stamp.key_id {
            None => (1, sequence(&[issuer, &tlv(2, serial)])),
            Some((tag, id)) => (3, tlv(tag, &id)),
        };
        let signer = sequence(&[
            &tlv(2, &[version]),
            &id,
            &sha256,
            &[&[0xa0], &attributes[1..]].concat(),
            &sequence(&[&oid(stamp.algorithm.0), if stamp.algorithm.1 { &[5, 0] } else { &[] }]),
            &tlv(4, &signature),
        ]);
        let certificates = match stamp.certificates {
            true => tlv(0xa0, &self.timestamp_certificate),
            false => vec![],
        };
        let signed_data = sequence(&[
            &tlv(2, &[3]),
            &set(&[&sha256]),
            &sequence(&[&content_type, &tlv(0xa0, &(stamp.content)(&info))]),
            &certificates,
            &if stamp.revocations { tlv(0xa1, &sequence(&[])) } else { vec![] },
            &set(&[&signer]),
        ]);
        let token = sequence(&[&oid(&[1, 2, 840, 113549, 1, 7, 2]), &tlv(0xa0, &signed_data)]);
        sequence(&[&sequence(&[&tlv(2, &[stamp.status])]), &token])
    }
}
