//! An instance by its configuration: keys in files, issuers as configured, no identity provider.

use super::{Plan, Signers, keys};
use crate::config::{Authorities, Config, Issuance, Key, KeyPlace};
use crate::failure::Failure;
use crate::gate::InForce;
use crate::{passphrase, witness_policy};
use countersign_ca::credential::Credential;
use countersign_ca::identity::{FulcioConfig, Issuer, Verifier};
use countersign_ca::limits::Limits;
use countersign_ca::signer::pkcs11::TokenSigner;
use countersign_ca::signer::{FileSigner, Signer};
use countersign_ca::timestamp::LastGiven;
use countersign_verify::encoding::hex;
use countersign_verify::merkle::Hash;
use der::pem;
use jiff::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// The passphrase of the encrypted keys, if there are any.
pub(crate) fn passphrase(config: &Config) -> Result<Option<Zeroizing<String>>, Failure> {
    match sealed(config) {
        Some(_) => passphrase::find(config.passphrase_file.as_deref()).map(Some),
        None => Ok(None),
    }
}

/// The first of the server's keys that is encrypted.
pub(crate) fn sealed(config: &Config) -> Option<PathBuf> {
    let keys = config.issuing.iter().chain(&config.timestamps);
    let files = keys.filter_map(|key| match &key.key {
        KeyPlace::File(path) => Some(path.clone()),
        KeyPlace::Token(_) => None,
    });
    let logs = super::keys::LOGS.map(|(name, _)| config.directory.join(name));
    files.chain(logs).find(|path| keys::is_sealed(path))
}

/// The passphrase as a restart would find it, which must be the one that was found at the start. One that was
/// typed then is not asked for again.
pub(crate) fn passphrase_again(
    config: &Config,
    known: Option<&str>,
) -> Result<Option<Zeroizing<String>>, Failure> {
    if !passphrase::is_at_hand(config.passphrase_file.as_deref()) {
        return Ok(known.map(|known| Zeroizing::new(known.to_owned())));
    }
    let again = passphrase(config)?;
    if again.as_ref().map(|text| &text[..]) != known {
        return Err(Failure::unclear("the passphrase of the keys is not the one of the start")
            .hint("put it back, or restart the server to change it"));
    }
    Ok(again)
}

/// What the configuration asks for, with its keys opened.
pub(crate) fn plan(config: &Config, passphrase: Option<&str>) -> Result<Plan, Failure> {
    let credentials = |all: &[Key]| {
        all.iter().map(|key| credential(key, passphrase)).collect::<Result<Vec<_>, _>>()
    };
    let issuers = config.issuers.as_deref().map(issuers).transpose()?.unwrap_or_default();
    let tokens = Verifier::new(issuers);
    let tokens = tokens.map_err(|error| Failure::unclear(format!("the issuers: {error}")))?;
    // One that has a mistake stops the start; a running instance keeps the one before.
    let policy = config.policy.as_deref();
    let policy = policy.map(|path| InForce::read(path, config.policy_terms)).transpose()?;
    let warning = policy.as_ref().and_then(|policy| policy.warning());
    Ok(Plan {
        organization: config.organization.clone(),
        issuing: credentials(&config.issuing)?,
        timestamps: credentials(&config.timestamps)?,
        stamped: LastGiven::default(),
        tokens,
        policy,
        login: config.login.as_ref().map(Url::to_string),
        provider: None,
        witnesses: match &config.witnesses {
            Some(witnesses) => witness_policy::witnesses(witnesses)?,
            None => None,
        },
        limits: limits(config.issuance),
        signers: Signers::read(&config.takes)?,
        files: files(config)?.into_iter().chain(warning).collect(),
    })
}

fn limits(Issuance { one_time_tokens, per_minute }: Issuance) -> Limits {
    let limits = per_minute.map_or_else(Limits::none, |number| Limits::none().per_minute(number));
    if one_time_tokens { limits.one_time_tokens(Timestamp::now()) } else { limits }
}

/// What the configuration consists of, each part with its SHA-256.
fn files(config: &Config) -> Result<Vec<String>, Failure> {
    let of = |name: &str, digest: &Hash| format!("{name} sha256:{}", hex(digest.as_bytes()));
    let mut files = vec![of("configuration", &config.digest)];
    let named =
        |name, path: &Option<PathBuf>| path.iter().map(|path| (name, path.clone())).collect();
    let authorities = config.takes.certificates.iter().flatten().filter_map(|one| match one {
        Authorities::Own => None,
        Authorities::Of(path) => Some(("log certificates", path.clone())),
    });
    let keys = config.takes.keys.iter().flatten().map(|path| ("log key", path.clone()));
    let parts: [Vec<_>; 4] = [
        named("issuers", &config.issuers),
        named("policy", &config.policy),
        authorities.collect(),
        keys.collect(),
    ];
    for (name, path) in parts.concat() {
        let bytes = fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        files.push(of(name, &Hash::of(&bytes)));
    }
    Ok(files)
}

/// The issuers of a Fulcio configuration.
pub(crate) fn issuers(path: &Path) -> Result<Vec<Issuer>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    let config = FulcioConfig::parse(&text).map_err(|mistakes| {
        Failure::unclear(format!("{} is not accepted:\n{mistakes}", path.display()))
            .hint("mend these lines; nothing of the file is used until all of it is understood")
    })?;
    Ok(config.issuers)
}

fn credential(key: &Key, passphrase: Option<&str>) -> Result<Credential, Failure> {
    let signer = match &key.key {
        KeyPlace::File(path) => signer(path, passphrase)?,
        KeyPlace::Token(uri) => {
            let signer = TokenSigner::open(uri);
            Arc::new(signer.map_err(|error| Failure::unclear(format!("{uri:?}: {error}")))?)
        }
    };
    let chain = read_chain(&key.certificates)?;
    Ok(Credential { signer, chain, from: key.from })
}

/// The key in a file.
pub(crate) fn signer(path: &Path, passphrase: Option<&str>) -> Result<Arc<dyn Signer>, Failure> {
    let signer = FileSigner::from_pkcs8(&keys::read(path, passphrase)?);
    let signer =
        signer.map_err(|error| Failure::unclear(format!("{}: {error}", path.display())))?;
    Ok(Arc::new(signer))
}

/// Certificates in PEM, one after the other, as DER.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    let mut chain = Vec::new();
    let mut rest = text.trim();
    while let Some(end) = rest.find(END) {
        let (one, after) = rest.split_at(end + END.len());
        match pem::decode_vec(one.trim().as_bytes()) {
            Ok(("CERTIFICATE", der)) => chain.push(der),
            _ => break,
        }
        rest = after.trim();
    }
    if chain.is_empty() || !rest.is_empty() {
        let message = format!("{}: expected certificates in PEM and nothing else", path.display());
        return Err(Failure::unclear(message));
    }
    Ok(chain)
}

/// Certificates, DER, one after the other in PEM.
pub(crate) fn write_chain(chain: &[Vec<u8>]) -> String {
    let pem = |der: &Vec<u8>| {
        pem::encode_string("CERTIFICATE", pem::LineEnding::LF, der)
            .expect("memory is the only limit")
    };
    chain.iter().map(pem).collect()
}
