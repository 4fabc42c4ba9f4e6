//! Where a command's trust comes from: files, or a development instance on this machine.

use crate::args::Trust;
use crate::failure::Failure;
use countersign_client::http::Http;
use countersign_client::trust::{ClientTrustConfig, SigningConfig};
use countersign_verify::TrustedRoot;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use url::Url;

/// Trust, and perhaps where to sign.
pub(crate) struct Loaded {
    pub(crate) root: TrustedRoot,
    pub(crate) signing: Option<SigningConfig>,
}

const NO_TRUST: &str = "give --trust-config FILE, --trusted-root FILE, or --instance URL of a development instance on this machine";

/// Where trust is to come from.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Choice {
    /// A ClientTrustConfig.
    Config(PathBuf),
    /// A trusted root.
    Root(PathBuf),
    /// A development instance.
    Instance(Url),
}

impl Choice {
    /// What a flag names; only without any of them what the environment names, files first. Whoever
    /// names a root on the command line must never get an answer by another one.
    pub(crate) fn find(
        flags: &Trust,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let first = |config: Option<PathBuf>, root: Option<PathBuf>, instance: Option<Url>| {
            let config = config.map(Self::Config);
            config.or_else(|| root.map(Self::Root)).or_else(|| instance.map(Self::Instance))
        };
        let Trust { trust_config, trusted_root, instance } = flags.clone();
        if let Some(choice) = first(trust_config, trusted_root, instance) {
            return Ok(choice);
        }
        let path = |name| set(env(name)).map(PathBuf::from);
        let files = first(path("COUNTERSIGN_TRUST_CONFIG"), path("COUNTERSIGN_TRUSTED_ROOT"), None);
        if let Some(choice) = files {
            return Ok(choice);
        }
        let Some(instance) = set(env("COUNTERSIGN_INSTANCE")) else {
            let none = Failure::unclear("no trust is configured, so nothing can be verified");
            return Err(none.hint(NO_TRUST));
        };
        let url = instance.to_str().and_then(|text| Url::parse(text).ok());
        url.map(Self::Instance).ok_or_else(|| Failure::unclear("COUNTERSIGN_INSTANCE is not a URL"))
    }

    /// By the flags and this process's environment.
    pub(crate) fn of(flags: &Trust) -> Result<Self, Failure> {
        Self::find(flags, |name| std::env::var_os(name))
    }

    /// Whether no network is needed.
    pub(crate) const fn is_file(&self) -> bool {
        !matches!(self, Self::Instance(_))
    }

    /// Loads it.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        match self {
            Self::Config(path) => config(&read(path)?).map_err(|error| named(path, &error)),
            Self::Root(path) => {
                let root = TrustedRoot::parse(&read(path)?).map_err(|error| named(path, &error))?;
                Ok(Loaded { root, signing: None })
            }
            Self::Instance(url) => {
                let bytes = block_on(fetch(url))??;
                config(&bytes).map_err(|error| Failure::unclear(format!("{url}: {error}")))
            }
        }
    }
}

/// Loads what the flags name, or else the environment.
pub(crate) fn load(flags: &Trust) -> Result<Loaded, Failure> {
    Choice::of(flags)?.load()
}

/// The signing config to use beside `flags`: the one a flag names; the environment's only if no flag
/// says whom to trust, for that instance's services would not be the ones trusted.
pub(crate) fn signing_config(flag: Option<&Path>, flags: &Trust) -> Option<PathBuf> {
    let trust_by_flag = flags.trust_config.is_some() || flags.instance.is_some();
    flag.map(Path::to_owned).or_else(|| {
        let named = set(std::env::var_os("COUNTERSIGN_SIGNING_CONFIG"));
        named.filter(|_| !trust_by_flag).map(PathBuf::from)
    })
}

/// A variable that is set to nothing is not set.
fn set(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

fn config(bytes: &[u8]) -> Result<Loaded, countersign_client::trust::Error> {
    let config = ClientTrustConfig::parse(bytes)?;
    Ok(Loaded { root: config.trusted_root()?, signing: Some(config.signing_config) })
}

async fn fetch(url: &Url) -> Result<Vec<u8>, Failure> {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if !loopback {
        let refused =
            format!("{url} is not on this machine: trust fetched from it would be anybody's");
        return Err(Failure::unclear(refused).hint(
            "get its client_trust_config.json by a way you trust, and give --trust-config FILE",
        ));
    }
    let file = url
        .join("/trust/client_trust_config.json")
        .map_err(|_| Failure::unclear(format!("{url} is not a base URL")))?;
    let http = Http::new([&file]).map_err(|error| Failure::unclear(error.to_string()))?;
    http.get(&file).await.map_err(|error| {
        Failure::unclear(error.to_string()).hint("is `countersign dev` running, and on this port?")
    })
}

/// A file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(path, MAX_TRUSTED_ROOT)
}

/// The bytes of a file that must have at most `limit`.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        let message = format!("{} is larger than {limit} bytes, the limit for it", path.display());
        return Err(Failure::unclear(message));
    }
    Ok(bytes)
}

fn named(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::unclear(format!("{}: {error}", path.display()))
}

/// Runs a command's few requests on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::unclear(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_whatever_the_environment_names() {
        let everything = |name: &str| {
            let url = name == "COUNTERSIGN_INSTANCE";
            Some(if url { "http://127.0.0.1:1".into() } else { OsString::from(name) })
        };
        let nothing = || Trust { trust_config: None, trusted_root: None, instance: None };
        let url: Url = "http://127.0.0.1:2".parse().unwrap();
        for (flags, expected) in [
            (Trust { trusted_root: Some("r".into()), ..nothing() }, Choice::Root("r".into())),
            (Trust { trust_config: Some("c".into()), ..nothing() }, Choice::Config("c".into())),
            (Trust { instance: Some(url.clone()), ..nothing() }, Choice::Instance(url)),
            (nothing(), Choice::Config("COUNTERSIGN_TRUST_CONFIG".into())),
        ] {
            assert_eq!(Choice::find(&flags, everything).unwrap(), expected);
        }
        assert!(Choice::find(&nothing(), |_| Some(OsString::new())).is_err(), "empty is unset");
    }
}
