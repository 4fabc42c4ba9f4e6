//! The members of `trusted_root.json`, for reading and for writing one.

use crate::encoding::{Spelling, base64, read_base64};
use crate::key::{HashAlgorithm, KeyDetails};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The one deprecated form of keys that trusted roots in use still carry.
pub(super) const PKCS1: &str = "PKCS1_RSA_PKCS1V5";

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct TrustedRoot {
    /// [`MEDIA_TYPE`](super::MEDIA_TYPE) when written.
    #[serde(alias = "media_type")]
    pub media_type: String,
    /// Logs of signatures.
    #[serde(default, deserialize_with = "nullable")]
    pub tlogs: Vec<Log>,
    /// Authorities for signing certificates.
    #[serde(default, deserialize_with = "nullable", alias = "certificate_authorities")]
    pub certificate_authorities: Vec<Authority>,
    /// Logs of certificates.
    #[serde(default, deserialize_with = "nullable")]
    pub ctlogs: Vec<Log>,
    /// Timestamp authorities.
    #[serde(default, deserialize_with = "nullable", alias = "timestamp_authorities")]
    pub timestamp_authorities: Vec<Authority>,
}

/// `TransparencyLogInstance`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Log {
    /// Its host is the origin of a Rekor v2 log.
    #[serde(default, deserialize_with = "nullable", alias = "base_url")]
    pub base_url: String,
    /// `SHA2_256`.
    #[serde(alias = "hash_algorithm", deserialize_with = "read_hash")]
    pub hash_algorithm: String,
    /// Its key.
    #[serde(alias = "public_key")]
    pub public_key: PublicKey,
    /// Its ID.
    #[serde(alias = "log_id")]
    pub log_id: LogId,
    /// Version 0.2: its first four bytes are the key ID on checkpoints; without it, those of `log_id` are. Not
    /// written: older clients refuse it.
    #[serde(default, skip_serializing, alias = "checkpoint_key_id")]
    pub checkpoint_key_id: Option<LogId>,
    /// Version 0.2: who runs it. Not written: older clients refuse it.
    #[serde(default, skip_serializing)]
    pub operator: Option<String>,
}

/// A log's key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct PublicKey {
    /// SubjectPublicKeyInfo, DER; base64 in JSON.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_base64", alias = "raw_bytes")]
    pub raw_bytes: Vec<u8>,
    /// `PublicKeyDetails` by name.
    #[serde(alias = "key_details", deserialize_with = "read_details")]
    pub key_details: String,
    /// When it is trusted.
    #[serde(skip_serializing_if = "Option::is_none", alias = "valid_for")]
    pub valid_for: Option<Window>,
}

/// A log's ID.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct LogId {
    /// 32 bytes; base64 in JSON.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_base64", alias = "key_id")]
    pub key_id: Vec<u8>,
}

/// A time span, RFC 3339, both ends included.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Window {
    /// First instant.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_time",
        deserialize_with = "read_time"
    )]
    pub start: Option<Timestamp>,
    /// Last instant.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_time",
        deserialize_with = "read_time"
    )]
    pub end: Option<Timestamp>,
}

/// `CertificateAuthority`: for certificates or for timestamps.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Authority {
    /// Who it is.
    #[serde(default, deserialize_with = "nullable")]
    pub subject: DistinguishedName,
    /// Where it is served.
    #[serde(default, deserialize_with = "nullable")]
    pub uri: String,
    /// Its certificates: the issuing one (for timestamps: the signing one) first, the root last.
    #[serde(alias = "cert_chain")]
    pub cert_chain: CertificateChain,
    /// When it is trusted.
    #[serde(skip_serializing_if = "Option::is_none", alias = "valid_for")]
    pub valid_for: Option<Window>,
    /// Version 0.2: who runs it. Not written: older clients refuse it.
    #[serde(default, skip_serializing)]
    pub operator: Option<String>,
}

/// Two parts of a name, for people.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct DistinguishedName {
    /// O.
    #[serde(default, deserialize_with = "nullable")]
    pub organization: String,
    /// CN.
    #[serde(default, deserialize_with = "nullable", alias = "common_name")]
    pub common_name: String,
}

/// Certificates in order.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct CertificateChain {
    /// The certificates.
    #[serde(default, deserialize_with = "nullable")]
    pub certificates: Vec<Certificate>,
}

/// One certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
pub struct Certificate {
    /// DER; base64 in JSON.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_base64", alias = "raw_bytes")]
    pub raw_bytes: Vec<u8>,
}

/// `null` is absent, as protobuf JSON has it.
fn nullable<'de, T, D>(source: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Option::deserialize(source).map(Option::unwrap_or_default)
}

fn write_bytes<S: Serializer>(bytes: &[u8], target: S) -> Result<S::Ok, S::Error> {
    target.serialize_str(&base64(bytes))
}

fn read_hash<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    named(source, |number| HashAlgorithm::from_number(number).map(HashAlgorithm::name))
}

fn read_details<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    named(source, |number| match number {
        1 => Some(PKCS1),
        number => KeyDetails::from_number(number).map(KeyDetails::name),
    })
}

/// A protobuf enumeration by name; by number it gets its name, if that is known.
fn named<'de, D: Deserializer<'de>>(
    source: D,
    name: impl Fn(i64) -> Option<&'static str>,
) -> Result<String, D::Error> {
    Ok(match Spelling::deserialize(source)? {
        Spelling::Text(text) => text,
        Spelling::Number(number) => name(number).map_or_else(|| number.to_string(), str::to_owned),
    })
}

fn read_time<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(source)?;
    let Some(text) = text else { return Ok(None) };
    let time = text.parse().ok().or_else(|| {
        // What has no end is often said to have it in the last second of 9999, later than jiff counts.
        let date = text.strip_suffix('Z')?.parse::<DateTime>().ok()?;
        (date.year() == 9999).then_some(Timestamp::MAX)
    });
    time.map(Some).ok_or_else(|| de::Error::custom("expected a time in RFC 3339"))
}

fn write_time<S: Serializer>(time: &Option<Timestamp>, target: S) -> Result<S::Ok, S::Error> {
    target.collect_str(&time.expect("absent times are not written"))
}
