//! `countersign ca rotate`: the next key of an authority.
//!
//! The new key is kept as the server's others are, because it opens all of them with one passphrase. What can fail
//! is tried before a key is made, and what fails later leaves none behind.

use super::ceremony::{Root, offline};
use super::import;
use crate::args::serve::Rotate;
use crate::config::{Config, KeyPlace};
use crate::failure::Failure;
use crate::instance::{keys, production};
use crate::{output, passphrase};
use countersign_ca::ceremony::Role;
use countersign_ca::signer;
use countersign_ca::signer::pkcs11::{TokenSigner, Uri};
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

pub(super) fn run(args: &Rotate) -> Result<(), Failure> {
    let path = args.place.file();
    let config = Config::load(&path)?;
    let role = Role::from(args.role);
    let (folder, token) = (&config.directory, args.key.as_deref());
    let mut names = (2..).map(|number| format!("{}-{number}", role.name()));
    let name = names.find(|name| is_free(name, &config)).expect("numbers do not end");
    if let Some(uri) = token {
        unused(uri)?;
    }
    let passphrase = if token.is_some() { None } else { sealing(args, &config)? };
    let passphrase = passphrase.as_ref().map(|passphrase| &passphrase[..]);
    let root = match &args.root {
        Some(root) => {
            let network = offline(&args.network)?;
            Some((Root::open(root, args.root_passphrase_file.as_deref())?, network))
        }
        None => None,
    };
    let organization = &config.organization;
    let request = keys::make_for_authority(folder, &name, role, organization, token, passphrase)
        .inspect_err(|_| forget(folder, &name))?;
    let Some((root, network)) = root else {
        let notice = args.begin.r#in.map_or_else(String::new, |notice| {
            // Seconds, so that it is one word.
            format!(" --in {}s", notice.as_secs())
        });
        return output::print(&format!(
            "Made the key {name}. Bring its signing request to the root, and the certificate back:\n  countersign ca ceremony sign --root DIR --csr {} --as {} --out {name}.crt\n  countersign ca import --config {} {name}.crt{notice}\n",
            folder.join(format!("requests/{name}.csr")).display(),
            role.name(),
            path.display(),
        ));
    };
    let chain = root.certify(role, request.as_bytes(), &format!("{name}.csr"), &network);
    let installed = chain.and_then(|chain| import::install(&path, &chain, args.begin.r#in));
    output::print(&installed.inspect_err(|_| {
        // Once the configuration names the key it stays, whatever failed then.
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !text.contains(&format!("{name}.crt")) {
            forget(folder, &name);
        }
    })?)
}

/// The passphrase that the server will open the new key with, unless it is to stay readable.
fn sealing(args: &Rotate, config: &Config) -> Result<Option<Zeroizing<String>>, Failure> {
    if args.unencrypted_keys {
        return Ok(None);
    }
    let Some(key) = production::sealed(config) else {
        let message = "the server's keys are not encrypted, and it takes one passphrase for all";
        return Err(Failure::unclear(message).hint("give --unencrypted-keys"));
    };
    let file = args.passphrase_file.as_deref().or(config.passphrase_file.as_deref());
    let passphrase = passphrase::find(file)?;
    keys::read(&key, Some(&passphrase))?;
    Ok(Some(passphrase))
}

/// The files of a key, each with NAME for its name.
const FILES: [&str; 4] =
    ["keys/NAME.pem", "keys/NAME.crt", "requests/NAME.csr", "requests/NAME.key"];

/// Whether nothing has this name: no file of a key, whatever became of the others, and no key that the
/// configuration has.
fn is_free(name: &str, config: &Config) -> bool {
    let has = |path: &Path| path.file_stem().is_some_and(|stem| stem == name);
    let mut configured = config.issuing.iter().chain(&config.timestamps);
    let is_configured = configured
        .any(|key| has(&key.certificates) || matches!(&key.key, KeyPlace::File(path) if has(path)));
    let exists = |file: &&str| config.directory.join(file.replace("NAME", name)).exists();
    !is_configured && !FILES.iter().any(exists)
}

/// The next key is a new one: what a token has under this label may be the key in use.
fn unused(uri: &str) -> Result<(), Failure> {
    let parsed = Uri::parse(uri).map_err(|error| Failure::unclear(format!("--key: {error}")))?;
    match TokenSigner::open(&parsed) {
        Err(signer::Error::TokenKey) => Ok(()),
        Err(error) => Err(Failure::unclear(format!("--key {uri}: {error}"))),
        Ok(_) => Err(Failure::unclear(format!("--key {uri}: the token has a key of this label"))
            .hint("give the next key an object label of its own")),
    }
}

/// Removes what was made of a key that nothing names. All of it this run has made: the name was free.
fn forget(folder: &Path, name: &str) {
    for file in FILES {
        // Some were not made yet.
        let _ = fs::remove_file(folder.join(file.replace("NAME", name)));
    }
}
