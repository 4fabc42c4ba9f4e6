//! A development instance: all keys in its directory, and an identity provider that believes everybody.

use super::{Directory, Instance, Plan, Signers, keys};
use crate::failure::Failure;
use crate::gate::InForce;
use crate::idp::{self, Provider};
use countersign_ca::ceremony::{self, Ceremony};
use countersign_ca::credential::Credential;
use countersign_ca::identity::{Issuer, Mapping, Verifier};
use countersign_ca::limits::Limits;
use countersign_ca::signer::FileSigner;
use countersign_ca::timestamp::LastGiven;
use countersign_log::witness::Witnesses;
use jiff::Timestamp;
use std::fs;
use std::sync::Arc;
use url::Url;

/// Opens the instance in `directory`, to be reached at `url`; makes what is not there yet.
/// Tokens of `others` are accepted beside those of its own provider, and those sign whom `policy` lets.
pub(crate) async fn open(
    directory: Directory,
    url: &Url,
    others: Vec<Issuer>,
    policy: Option<Arc<InForce>>,
    witnesses: Option<Arc<Witnesses>>,
) -> Result<Instance, Failure> {
    let settings = directory.settle(url)?;
    keys::make_for_logs(&directory, None)?;
    let Ceremony { root, issuing, timestamps } = authorities(&directory)?;
    let provider = directory.secret("keys/idp.pem", idp::generate_key)?;
    let provider = Arc::new(Provider::new(&settings.url, &provider)?);
    let credential = |(signer, certificate): (FileSigner, Vec<u8>)| {
        let chain = vec![certificate, root.1.clone()];
        vec![Credential { signer: Arc::new(signer), chain, from: Timestamp::MIN }]
    };
    let plan = Plan {
        organization: "Countersign development".to_owned(),
        issuing: credential(issuing),
        timestamps: credential(timestamps),
        stamped: LastGiven::default(),
        tokens: issuers(&provider, others)?,
        policy,
        login: Some(provider.people()),
        provider: Some(provider),
        witnesses,
        limits: Limits::none(),
        signers: Signers::default(),
        files: Vec::new(),
    };
    Instance::open(directory, settings, plan, None).await
}

fn issuers(provider: &Provider, others: Vec<Issuer>) -> Result<Verifier, Failure> {
    let own = [
        Issuer::new(&provider.people(), Mapping::EMAIL),
        Issuer::new(&provider.ci(), Mapping::github_actions("https://github.com")),
    ];
    Verifier::new(others.into_iter().chain(own))
        .map_err(|error| Failure::unclear(format!("the identity provider: {error}")))
}

/// Root, issuing CA and timestamp certificate: made together, kept as files. Of a ceremony that a crash
/// cut short nothing was used, so another begins.
fn authorities(directory: &Directory) -> Result<Ceremony, Failure> {
    let made = directory.file("keys/root.crt").exists();
    let failed =
        |error: &dyn std::fmt::Display| Failure::unclear(format!("the authorities' keys: {error}"));
    if !made {
        let ceremony = ceremony::create("Countersign development", Timestamp::now());
        let ceremony = ceremony.map_err(|error| failed(&error))?;
        let parts = [
            ("timestamps", &ceremony.timestamps),
            ("issuing", &ceremony.issuing),
            ("root", &ceremony.root),
        ];
        // The root's certificate is written last: with it the ceremony is complete.
        for (name, (key, certificate)) in parts {
            let pem = key.to_pem().map_err(|error| failed(&error))?;
            directory.write(&format!("keys/{name}.pem"), pem.as_bytes())?;
            let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, certificate);
            let pem = pem.map_err(|error| failed(&error))?;
            directory.write(&format!("keys/{name}.crt"), pem.as_bytes())?;
        }
        return Ok(ceremony);
    }
    let read = |name: String| {
        let path = directory.file(&name);
        fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))
    };
    let pair = |name: &str| {
        let key = FileSigner::from_pem(&read(format!("keys/{name}.pem"))?);
        let certificate = read(format!("keys/{name}.crt"))?;
        let certificate = der::pem::decode_vec(certificate.as_bytes());
        Ok::<_, Failure>((
            key.map_err(|error| failed(&error))?,
            certificate.map_err(|error| failed(&error))?.1,
        ))
    };
    Ok(Ceremony { root: pair("root")?, issuing: pair("issuing")?, timestamps: pair("timestamps")? })
}
