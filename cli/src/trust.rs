//! Where a command's trust comes from: files, or a development instance on this machine.

use crate::args::Trust;
use crate::failure::Failure;
use countersign_client::http::Http;
use countersign_client::trust::{ClientTrustConfig, SigningConfig};
use countersign_verify::TrustedRoot;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use std::io::Read as _;
use std::path::Path;
use url::Url;

/// Trust, and perhaps where to sign.
pub(crate) struct Loaded {
    pub(crate) root: TrustedRoot,
    pub(crate) signing: Option<SigningConfig>,
}

const NO_TRUST: &str = "give --trust-config FILE, --trusted-root FILE, or --instance URL of a development instance on this machine";

/// Loads what the flags name.
pub(crate) fn load(flags: &Trust) -> Result<Loaded, Failure> {
    match flags {
        Trust { trust_config: Some(path), .. } => {
            config(&read(path)?).map_err(|error| named(path, &error))
        }
        Trust { trusted_root: Some(path), .. } => {
            let root = TrustedRoot::parse(&read(path)?).map_err(|error| named(path, &error))?;
            Ok(Loaded { root, signing: None })
        }
        Trust { instance: Some(url), .. } => {
            let bytes = block_on(fetch(url))??;
            config(&bytes).map_err(|error| Failure::unclear(format!("{url}: {error}")))
        }
        _ => {
            Err(Failure::unclear("no trust is configured, so nothing can be verified")
                .hint(NO_TRUST))
        }
    }
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
