//! TLS from files: a certificate chain and its key, PEM. They are read again when they change, and a pair
//! that does not fit together leaves the old one in place.

use crate::failure::Failure;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where certificate and key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Files {
    /// The server's certificate first, then those above it.
    pub(crate) certificate: PathBuf,
    /// PKCS#8, PKCS#1 or SEC 1; not encrypted.
    pub(crate) key: PathBuf,
}

impl Files {
    /// Reads both and checks that they belong together.
    pub(crate) fn read(&self) -> Result<Arc<ServerConfig>, Failure> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::unclear(format!("TLS: {}: {error}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(&self.certificate, &error))?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| failed(&self.key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| failed(&self.certificate, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key]
            .map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
    }

    /// Has the server use what the files come to hold. Ends with the server.
    pub(crate) async fn watch(self, server: RustlsConfig) {
        let mut last = self.changed();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.changed();
            if now == last {
                continue;
            }
            // The two are replaced one after the other: a pair that does not fit is looked at again.
            match self.read() {
                Ok(config) => {
                    last = now;
                    server.reload_from_config(config);
                    tracing::info!("the TLS certificate was replaced");
                }
                Err(error) => tracing::warn!("the TLS certificate stays: {}", error.text()),
            }
        }
    }
}
