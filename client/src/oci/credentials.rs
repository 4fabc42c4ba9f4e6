//! Who we are to a registry: as Docker, Podman and their credential helpers keep it.
//!
//! In this order: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, `$REGISTRY_AUTH_FILE`,
//! `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`; the first that has an entry.
//! Within a file the crate `docker_credential` decides: helpers, identity tokens, user and password. A key
//! may name a part of the registry, as Podman has it: the longest one wins.

use super::Error;
use super::reference::DOCKER_HUB;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest configuration file that is read, in bytes. Real ones have some KiB.
const MAX_CONFIG: u64 = 1 << 20;
/// Docker Hub's key in configuration files and for helpers, for historical reasons.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a registry or its token server is shown.
#[derive(Clone)]
pub enum Credential {
    /// User and password.
    Password(String, Zeroizing<String>),
    /// An OAuth refresh token, which the token server exchanges.
    IdentityToken(Zeroizing<String>),
    /// A token for the registry itself.
    Bearer(Zeroizing<String>),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Credential {
    /// Looks for one in the files; `env` reads the environment.
    pub(super) fn find(
        registry: &str,
        repository: &str,
        env: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Option<Self>, Error> {
        for path in files(env) {
            let Some(bytes) = read(&path, registry)? else { continue };
            let key = key(&bytes, registry, repository);
            match get_credential_from_reader(&bytes[..], &key) {
                Ok(DockerCredential::UsernamePassword(user, password)) => {
                    // An entry without content, as Docker writes beside a store.
                    if user.is_empty() && password.is_empty() {
                        continue;
                    }
                    return Ok(Some(Self::Password(user, password.into())));
                }
                Ok(DockerCredential::IdentityToken(token)) => {
                    return Ok(Some(Self::IdentityToken(token.into())));
                }
                Err(error) => {
                    if let Some(reason) = reason(&error) {
                        let reason = format!("{}: {reason}", path.display());
                        return Err(Error::Credentials { registry: registry.to_owned(), reason });
                    }
                }
            }
        }
        Ok(None)
    }
}

fn files(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    let path = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = path("HOME");
    let below = |folder: Option<PathBuf>, file: &str| folder.map(|folder| folder.join(file));
    let docker = path("DOCKER_CONFIG").or_else(|| below(home.clone(), ".docker"));
    [
        below(docker, "config.json"),
        path("REGISTRY_AUTH_FILE"),
        below(path("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(home, ".config/containers/auth.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn read(path: &Path, registry: &str) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read as _;
    let failed = |reason: String| Error::Credentials {
        registry: registry.to_owned(),
        reason: format!("{}: {reason}", path.display()),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(failed(format!("larger than {MAX_CONFIG} bytes, the limit for it")));
    }
    Ok(Some(bytes))
}

/// The key under which the file speaks of the repository: the longest prefix that it has, else the
/// registry.
fn key(config: &[u8], registry: &str, repository: &str) -> String {
    #[derive(Default, Deserialize)]
    struct Keys {
        #[serde(default)]
        auths: BTreeMap<String, serde::de::IgnoredAny>,
    }
    let Keys { auths } = serde_json::from_slice(config).unwrap_or_default();
    let mut name = format!("{registry}/{repository}");
    loop {
        if auths.contains_key(&name) {
            return name;
        }
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None if registry == DOCKER_HUB => return DOCKER_HUB_KEY.to_owned(),
            None => return name,
        }
    }
}

/// Why it failed, without what a helper printed, which may hold a secret; none where there merely is no
/// entry.
fn reason(error: &CredentialRetrievalError) -> Option<String> {
    Some(match error {
        CredentialRetrievalError::NoCredentialConfigured
        | CredentialRetrievalError::ConfigNotFound => return None,
        // Helpers say so when they have none for this registry.
        CredentialRetrievalError::HelperFailure { stdout, .. }
            if stdout.contains("credentials not found") =>
        {
            return None;
        }
        CredentialRetrievalError::HelperFailure { helper, .. } => format!("{helper} failed"),
        CredentialRetrievalError::HelperCommunicationError => {
            "the credential helper that it names cannot be run".to_owned()
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &str, registry: &str, repository: &str) -> Result<Option<Credential>, Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let env = |name: &str| (name == "DOCKER_CONFIG").then(|| dir.path().as_os_str().to_owned());
        Credential::find(registry, repository, env)
    }

    fn user(config: &str, registry: &str, repository: &str) -> Option<String> {
        match find(config, registry, repository).unwrap() {
            Some(Credential::Password(user, _)) => Some(user),
            _ => None,
        }
    }

    #[test]
    fn the_longest_key_that_names_the_repository_wins() {
        // YTpi is a:b, Yzpk is c:d, ZTpm is e:f.
        let config = r#"{"auths":{"r.example:5000":{"auth":"YTpi"},"r.example:5000/team":{"auth":"Yzpk"},
            "https://index.docker.io/v1/":{"auth":"ZTpm"},"empty.example":{}}}"#;
        assert_eq!(user(config, "r.example:5000", "other/app").as_deref(), Some("a"));
        assert_eq!(user(config, "r.example:5000", "team/app").as_deref(), Some("c"));
        assert_eq!(user(config, "r.example:5000", "teams/app").as_deref(), Some("a"));
        assert_eq!(user(config, DOCKER_HUB, "library/alpine").as_deref(), Some("e"));
        assert_eq!(user(config, "elsewhere.example", "team/app"), None);
        assert_eq!(user(config, "empty.example", "app"), None);
        let token = r#"{"auths":{"r.example":{"auth":"YTpi","identitytoken":"t"}}}"#;
        let found = find(token, "r.example", "app").unwrap();
        assert!(matches!(found, Some(Credential::IdentityToken(_))));
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_an_error_and_not_anonymity() {
        for config in [
            "{",
            r#"{"auths":{"r.example":{"auth":"!"}}}"#,
            r#"{"credHelpers":{"r.example":"that-does-not-exist"}}"#,
        ] {
            let found = find(config, "r.example", "app");
            assert!(matches!(found, Err(Error::Credentials { .. })), "{config}: {found:?}");
        }
    }
}
