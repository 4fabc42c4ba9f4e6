//! `countersign init`, `serve`, `ca` and `doctor`.

use crate::logging::LogFormat;
use crate::server::Role;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Which instance. Both may be given, because an image has `COUNTERSIGN_DIR` set.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
pub(crate) struct Place {
    /// The instance's directory, with countersign.toml in it
    #[arg(long, env = "COUNTERSIGN_DIR")]
    dir: Option<PathBuf>,
    /// The configuration, where it is another file than the directory's
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// The configuration.
    pub(crate) fn file(&self) -> PathBuf {
        match (&self.config, &self.dir) {
            (Some(file), _) => file.clone(),
            (None, dir) => dir.clone().unwrap_or_default().join(crate::config::NAME),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Serve these faces alone [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) role: Vec<Role>,
    /// How the program's own log is written, on standard error; COUNTERSIGN_LOG filters it
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// Where configuration, keys and logs will live
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// The URL by which clients will reach it; its host is the logs' name for good
    #[arg(long, env = "COUNTERSIGN_URL")]
    pub(crate) url: Option<Url>,
    /// Whose it is, for the names in certificates: letters, digits, spaces and hyphens
    #[arg(long)]
    pub(crate) organization: Option<String>,
    /// Address and port to listen on
    #[arg(long, env = "COUNTERSIGN_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8420")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain of the server, PEM, for TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Whose tokens are accepted: a Fulcio configuration (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) issuers: Option<PathBuf>,
    /// The issuing CA's key in a PKCS#11 token, made there if need be: pkcs11:token=T;object=O?module-path=FILE&pin-source=file:FILE [default: a file]
    #[arg(long, value_name = "URI")]
    pub(crate) issuing_key: Option<String>,
    /// The same for timestamps
    #[arg(long, value_name = "URI")]
    pub(crate) timestamps_key: Option<String>,
    #[command(flatten)]
    pub(crate) sealing: Sealing,
    /// Have the root in this directory certify the new keys at once; made if need be. Move it off this machine afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// A file with the passphrase of the root's key, which is another than the server's [default: ask]
    #[arg(long, value_name = "FILE", requires = "root", conflicts_with = "unencrypted_keys")]
    pub(crate) root_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// How keys are kept.
#[derive(Debug, ClapArgs)]
pub(crate) struct Sealing {
    /// A file with the passphrase for the keys, on its first line [default: ask]
    #[arg(long, value_name = "FILE", conflicts_with = "unencrypted_keys")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Do not encrypt the keys: whoever reads the disk can sign
    #[arg(long)]
    pub(crate) unencrypted_keys: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Network {
    /// Use the root's key although a network is up
    #[arg(long)]
    pub(crate) with_network_up: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make a root, offline; or, with `sign`, have it certify a key
    Ceremony(Ceremony),
    /// Put a certificate, by the ceremony or a root of your own, beside its key
    Import(Import),
    /// Make the next key of an authority, to take over from the one in use
    Rotate(Rotate),
    /// Show whom a token names, what its certificate would say, and what policy says
    ExplainToken(super::ca::ExplainToken),
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Ceremony {
    #[command(subcommand)]
    pub(crate) sign: Option<CeremonyCommand>,
    /// Where the root's key, certificate and transcript go; a new directory
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) out: Option<PathBuf>,
    /// Whose root it is: letters, digits, spaces and hyphens
    #[arg(long, required = true)]
    pub(crate) organization: Option<String>,
    /// The curve of its key
    #[arg(long, default_value = "p384")]
    pub(crate) curve: Curve,
    #[command(flatten)]
    pub(crate) sealing: Sealing,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Curve {
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CeremonyCommand {
    /// Certify the key of a signing request
    Sign(Sign),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Sign {
    /// The root's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// The signing request, as countersign init and ca rotate make it
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: PathBuf,
    /// What the key is to be for
    #[arg(long = "as", value_name = "ROLE")]
    pub(crate) role: KeyRole,
    /// Where the certificate goes, with the root's behind it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// A file with the passphrase of the root's key [default: ask]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: Network,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum KeyRole {
    /// Signs certificates
    Issuing,
    /// Signs timestamps
    Timestamps,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// The certificate with those above it, PEM, the root last
    #[arg(value_name = "CERTIFICATES")]
    pub(crate) certificates: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) begin: Begin,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Begin {
    /// How long a key that is to take over is published before it signs [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub(crate) r#in: Option<Duration>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Rotate {
    /// Which key
    pub(crate) role: KeyRole,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The new key in a PKCS#11 token, made there if need be [default: a file]
    #[arg(long, value_name = "URI")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) begin: Begin,
    /// A file with the passphrase of the server's keys [default: as the server finds it]
    #[arg(long, value_name = "FILE", conflicts_with = "unencrypted_keys")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Do not encrypt the new key: whoever reads the disk can sign
    #[arg(long)]
    pub(crate) unencrypted_keys: bool,
    /// Have the root in this directory certify the new key at once
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// A file with the passphrase of the root's key [default: ask]
    #[arg(long, value_name = "FILE", requires = "root")]
    pub(crate) root_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: Network,
}
