//! The configuration of an instance: TOML, read strictly.
//!
//! A mistake hides no other: all are found at once, each with its line, what was expected and what was
//! found. An unknown key is one. What [`Config::parse`] returns has been checked as a whole, but for the
//! keys and certificates themselves, which opening them checks.
//!
//! Paths are relative to the configuration's folder.

pub(crate) mod admission;
mod bounds;
mod reader;

use crate::args::duration;
use crate::args::witness::{Action, Witnesses};
use crate::failure::Failure;
use crate::gate::Terms;
use crate::server::tls;
pub(crate) use bounds::{Authorities, Issuance, Takes};
use clap::ValueEnum as _;
use countersign_ca::signer::pkcs11;
use countersign_client::http::is_loopback;
use countersign_front::Limits;
use countersign_verify::merkle::Hash;
use jiff::Timestamp;
use reader::{Reader, Section};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The configuration's name in an instance's directory.
pub(crate) const NAME: &str = "countersign.toml";

/// What an instance is to be.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// By which clients reach it.
    pub(crate) url: Url,
    /// Whose it is: letters, digits, spaces and hyphens.
    pub(crate) organization: String,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Its state: keys, logs.
    pub(crate) directory: PathBuf,
    /// `None`: plain HTTP.
    pub(crate) tls: Option<tls::Files>,
    /// Holds the passphrase of encrypted keys.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where people log in.
    pub(crate) login: Option<Url>,
    /// Whose tokens are accepted: a Fulcio configuration. `None`: nobody's.
    pub(crate) issuers: Option<PathBuf>,
    /// Who of them is given a certificate: a policy. `None`: everybody.
    pub(crate) policy: Option<PathBuf>,
    /// How it is in force.
    pub(crate) policy_terms: Terms,
    pub(crate) issuing: Vec<Key>,
    pub(crate) timestamps: Vec<Key>,
    /// Who cosigns the checkpoints of the signature log.
    pub(crate) witnesses: Option<Witnesses>,
    /// How often certificates are given.
    pub(crate) issuance: Issuance,
    /// Whose entries the signature logs take.
    pub(crate) takes: Takes,
    /// What the server takes on at a time.
    pub(crate) limits: Limits,
    /// SHA-256 of its text.
    pub(crate) digest: Hash,
}

/// Where a private key is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum KeyPlace {
    /// In a file, PEM.
    File(PathBuf),
    /// In a PKCS#11 token.
    Token(pkcs11::Uri),
}

/// A key with its certificates.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) key: KeyPlace,
    /// PEM: the key's own certificate first, the root last.
    pub(crate) certificates: PathBuf,
    /// When it begins to sign; `MIN` unless said.
    pub(crate) from: Timestamp,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::file("read", path, &error).hint(
                "make an instance with countersign init, or name its configuration with --config",
            )
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, Path::is_file).map_err(|mistakes| failure(path, &mistakes))
    }

    /// Reads `text`; paths in it are relative to `folder`, and `is_file` says whether a file is there.
    pub(crate) fn parse(
        text: &str,
        folder: &Path,
        is_file: fn(&Path) -> bool,
    ) -> Result<Self, Vec<Mistake>> {
        let reader = Reader::new(text);
        let config = read(&reader, folder, is_file);
        let mistakes = reader.mistakes();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(mistakes),
        }
    }

    /// Whether a running instance can change over from `old`.
    pub(crate) fn fits(&self, old: &Self) -> Result<(), Failure> {
        let differs = [
            ("url", self.url != old.url),
            ("listen", self.listen != old.listen),
            ("directory", self.directory != old.directory),
            ("tls", self.tls.is_some() != old.tls.is_some()),
            ("witnesses", self.witnesses != old.witnesses),
            ("limits", self.limits != old.limits),
        ];
        match differs.into_iter().find_map(|(name, differs)| differs.then_some(name)) {
            None => Ok(()),
            Some(name) => Err(Failure::unclear(format!("{name:?} changes with a restart only"))
                .hint("restart the server, or take the change back")),
        }
    }
}

/// All that is wrong with the configuration at `path`.
fn failure(path: &Path, mistakes: &[Mistake]) -> Failure {
    let count = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    let lines: Vec<_> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    Failure::unclear(format!("{} has {count}:{}", path.display(), lines.concat()))
}

fn read(reader: &Reader<'_>, folder: &Path, is_file: fn(&Path) -> bool) -> Option<Config> {
    let mut root = reader.root()?;
    let file = |text: &str| {
        let path = folder.join(text);
        if is_file(&path) {
            Ok(path)
        } else {
            Err(Expected::new("the name of a file that is there"))
        }
    };
    let url = root.required("url", base_url);
    let organization = root.required("organization", organization);
    let listen = root.required("listen", address);
    let directory = root.optional("directory", |text| Ok(folder.join(text)));
    let unsafe_http = root.flag("plain-http-beyond-loopback-is-unsafe");

    let tls = root.table("tls").map(|tls| tls_files(tls, file));
    let witnesses = root.table("witnesses").map(|mut table| {
        let policy = table.required("policy", file);
        let timeout = table.optional("timeout", |text| {
            duration(text).map_err(|_| Expected::new("a duration, such as \"1s\""))
        });
        let lacking = table.optional("lacking", |text| {
            Action::from_str(text, false).map_err(|_| Expected::new("\"publish\" or \"hold\""))
        });
        table.finish();
        policy.map(|policy| Witnesses {
            witness_policy: Some(policy),
            witness_timeout: timeout.unwrap_or(Duration::from_secs(1)),
            witness_lacking: lacking.unwrap_or(Action::Publish),
        })
    });
    let passphrase_file = root.table("keys").and_then(|mut keys| {
        let file = keys.optional("passphrase-file", |text| Ok(folder.join(text)));
        keys.finish();
        file
    });
    let login = root.optional("login", |text| match Url::parse(text) {
        Ok(url) if url.scheme() == "https" || is_loopback(&url) => Ok(url),
        _ => Err(Expected::new("the https URL of an OIDC issuer")),
    });
    let issuers = root.optional("issuers", file);
    let policy = root.optional("policy", file);
    let mut term = |key| {
        let term = root.flag(key);
        if term.is_some() {
            root.demand("policy");
        }
        term.unwrap_or_default()
    };
    let policy_terms =
        Terms { dry_run: term("policy-dry-run"), require_intent: term("require-intent") };
    let issuance = bounds::issuance(&mut root);
    let takes = bounds::takes(&mut root, file);
    let limits = bounds::limits(&mut root);
    let issuing = keys(&mut root, "issuing", file);
    let timestamps = keys(&mut root, "timestamps", file);

    if let Some(listen) = listen {
        let beyond = !SocketAddr::ip(&listen).is_loopback();
        match (&tls, unsafe_http) {
            (None, None | Some(false)) if beyond => root.mistake(
                "listen",
                "expected a loopback address, because there is no [tls]",
                &listen.to_string(),
                "add [tls] with certificate and key; or, behind a proxy that ends TLS on this machine, listen on 127.0.0.1; or set plain-http-beyond-loopback-is-unsafe = true",
            ),
            (Some(_), Some(true)) => root.mistake(
                "plain-http-beyond-loopback-is-unsafe",
                "expected it to be left out, because there is [tls]",
                "true",
                "take it away",
            ),
            _ => {}
        }
    }
    if let Some(url) = &url
        && url.scheme() == "http"
        && !is_loopback(url)
        && unsafe_http != Some(true)
    {
        root.mistake(
            "url",
            "expected https, because it is not on loopback",
            url.as_str(),
            "clients refuse plain HTTP beyond loopback",
        );
    }
    root.finish();
    Some(Config {
        url: url?,
        organization: organization?,
        listen: listen?,
        directory: directory.unwrap_or_else(|| folder.to_owned()),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        passphrase_file,
        login,
        issuers,
        policy,
        policy_terms,
        issuing: issuing?,
        timestamps: timestamps?,
        witnesses: match witnesses {
            Some(witnesses) => Some(witnesses?),
            None => None,
        },
        issuance,
        takes,
        limits,
        digest: Hash::of(reader.text().as_bytes()),
    })
}

/// Certificate and key of a server.
fn tls_files(
    mut table: Section<'_, '_>,
    file: impl Fn(&str) -> Result<PathBuf, Expected> + Copy,
) -> Option<tls::Files> {
    let (certificate, key) = (table.required("certificate", file), table.required("key", file));
    table.finish();
    certificate.zip(key).map(|(certificate, key)| tls::Files { certificate, key })
}

fn address(text: &str) -> Result<SocketAddr, Expected> {
    text.parse().map_err(|_| Expected::new("an address and port, such as \"127.0.0.1:8420\""))
}

pub(crate) fn base_url(text: &str) -> Result<Url, Expected> {
    let expected = || Expected::new("a URL without path, such as \"https://sigstore.example.com\"");
    let url = Url::parse(text).map_err(|_| expected())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let web = matches!(url.scheme(), "http" | "https") && url.username().is_empty();
    if web && bare && url.host().is_some() { Ok(url) } else { Err(expected()) }
}

/// What fits the names in certificates without being escaped.
pub(crate) fn organization(text: &str) -> Result<String, Expected> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-');
    if !text.is_empty() && text.len() <= 40 && text.trim() == text && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Expected::new("a name of up to 40 letters, digits, spaces and hyphens"))
    }
}

/// The keys of one authority: one at least, in the order in which they follow one another.
fn keys(
    root: &mut Section<'_, '_>,
    name: &'static str,
    file: impl Fn(&str) -> Result<PathBuf, Expected> + Copy,
) -> Option<Vec<Key>> {
    let tables = root.tables(name);
    if tables.is_empty() {
        root.mistake(
            name,
            "expected at least one",
            "none",
            &format!("add [[{name}]] with key and certificates; countersign init writes it"),
        );
        return None;
    }
    let mut all: Vec<Option<Key>> = Vec::new();
    let mut last = None;
    for mut table in tables {
        let key = table.required("key", |text| match pkcs11::Uri::is_one(text) {
            true => pkcs11::Uri::parse(text)
                .map(KeyPlace::Token)
                .map_err(|wrong| Expected::new(&format!("the URI of a key in a token ({wrong})"))),
            false => file(text).map(KeyPlace::File),
        });
        let certificates = table.required("certificates", |text| {
            let expected = "the name of a file that is there (countersign ca import puts it there)";
            file(text).map_err(|_| Expected::new(expected))
        });
        let from = table.optional("from", |text| {
            text.parse::<Timestamp>()
                .map_err(|_| Expected::new("a time, such as \"2027-01-31T12:00:00Z\""))
        });
        let begins = from.unwrap_or(Timestamp::MIN);
        if last.is_some_and(|last| begins <= last) {
            table.mistake(
                "from",
                "expected a time after that of the one before",
                &from.map_or("none".to_owned(), |from| from.to_string()),
                "put them in the order in which they follow one another",
            );
        }
        last = Some(begins);
        table.finish();
        let key = key.zip(certificates);
        all.push(key.map(|(key, certificates)| Key { key, certificates, from: begins }));
    }
    all.into_iter().collect()
}

pub(crate) use reader::{Expected, Mistake};

#[cfg(test)]
mod tests;
