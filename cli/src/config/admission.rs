//! The configuration of admission, in a file of its own: TOML, read as strictly as an instance's.
//!
//! ```toml
//! listen = "0.0.0.0:8443"
//!
//! [tls]
//! certificate = "tls/tls.crt"
//! key = "tls/tls.key"
//!
//! [admission]
//! policy = ["policy.yaml"]
//! trusted-root = ["trusted_root.json"]
//! cluster = "prod-eu"
//! ```
//!
//! What admission does beside deciding, such as pinning tags, stands in the policy's own section
//! `admission`: it belongs to what was decided about the cluster, and is signed with it.

use super::reader::{Expected, Mistake, Reader};
use super::{address, failure, tls_files};
use crate::args::duration;
use crate::failure::Failure;
use crate::server::tls;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take, unless told otherwise: below the ten seconds that the manifests give the
/// webhook, so that who asks hears why.
const DEADLINE: Duration = Duration::from_secs(8);

/// The longest deadline: an API server waits for at most 30 seconds.
const MAX_DEADLINE: Duration = Duration::from_secs(29);

/// What admission decides by, and where it listens.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// None on a node, where a process decides about one image.
    pub(crate) server: Option<Server>,
    /// The policy, then those that it includes.
    pub(crate) policy: Vec<PathBuf>,
    /// Our own trusted roots.
    pub(crate) trusted_root: Vec<PathBuf>,
    /// Whose cosignatures count, where the policy demands witnesses.
    pub(crate) witness_policy: Option<PathBuf>,
    /// The cluster's name, as contexts of the policy have it.
    pub(crate) cluster: String,
    /// How long an answer may take.
    pub(crate) deadline: Duration,
    /// The namespace that admission itself runs in.
    pub(crate) own_namespace: Option<String>,
    /// Authorities of registries beside the system's, PEM.
    pub(crate) registry_cacert: Option<PathBuf>,
}

/// Where it listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: tls::Files,
}

impl Config {
    /// Reads and checks the file at `path`. Only a server needs `listen` and `[tls]`.
    pub(crate) fn load(path: &Path, server: bool) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::file("read", path, &error)
                .hint("name the configuration of admission with --config, see docs/admission.md")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, server).map_err(|mistakes| failure(path, &mistakes))
    }

    fn parse(text: &str, folder: &Path, server: bool) -> Result<Self, Vec<Mistake>> {
        let reader = Reader::new(text);
        let config = read(&reader, folder, server);
        let mistakes = reader.mistakes();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(mistakes),
        }
    }

    /// The files that are read again when they change.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let some = [&self.witness_policy, &self.registry_cacert];
        self.policy.iter().chain(&self.trusted_root).chain(some.into_iter().flatten())
    }
}

fn read(reader: &Reader<'_>, folder: &Path, needed: bool) -> Option<Config> {
    let mut root = reader.root()?;
    let file = |text: &str| {
        let path = folder.join(text);
        path.is_file()
            .then_some(path)
            .ok_or_else(|| Expected::new("the name of a file that is there"))
    };
    let listen = match needed {
        true => root.required("listen", address),
        false => root.optional("listen", address),
    };
    let tls = root.table("tls");
    if needed && tls.is_none() {
        let next = "add [tls] with certificate and key: API servers speak TLS alone";
        root.mistake("tls", "expected a table, [tls]", "none", next);
    }
    let tls = tls.and_then(|tls| tls_files(tls, file));
    let Some(mut table) = root.table("admission") else {
        let next = "add [admission] with policy, trusted-root and cluster";
        root.mistake("admission", "expected a table, [admission]", "none", next);
        root.finish();
        return None;
    };
    for key in ["policy", "trusted-root"] {
        table.demand(key);
    }
    let policy = table.list("policy", file);
    let trusted_root = table.list("trusted-root", file);
    let witness_policy = table.optional("witness-policy", file);
    let cluster = table.required("cluster", name);
    let own_namespace = table.optional("own-namespace", name);
    let registry_cacert = table.optional("registry-cacert", file);
    let deadline = table.optional("deadline", |text| {
        let fits = |time: &Duration| !time.is_zero() && *time <= MAX_DEADLINE;
        duration(text).ok().filter(fits).ok_or_else(|| {
            Expected::new("a duration above 0s and below 30s, which is as long as API servers wait")
        })
    });
    table.finish();
    root.finish();
    Some(Config {
        server: match (listen, tls) {
            (Some(listen), Some(tls)) => Some(Server { listen, tls }),
            _ => None,
        },
        policy: policy?,
        trusted_root: trusted_root?,
        witness_policy,
        cluster: cluster?,
        deadline: deadline.unwrap_or(DEADLINE),
        own_namespace,
        registry_cacert,
    })
}

/// A cluster's or a namespace's (RFC 1123).
fn name(text: &str) -> Result<String, Expected> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !text.is_empty() && text.len() <= 253 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Expected::new("a name of lower-case letters, digits, '-' and '.'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"listen = "127.0.0.1:0"
[tls]
certificate = "a.pem"
key = "a.pem"
[admission]
policy = ["a.pem", "b.yaml"]
trusted-root = ["a.pem"]
cluster = "prod-eu"
deadline = "2s"
"#;

    fn parse(text: &str, server: bool) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.pem", "b.yaml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Config::parse(text, folder.path(), server);
        found.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_good_configuration_says_what_it_says() {
        let config = parse(GOOD, true).unwrap();
        assert!(config.server.is_some());
        assert_eq!(config.files().count(), 3);
        assert_eq!((config.cluster.as_str(), config.deadline), ("prod-eu", Duration::from_secs(2)));
        let node = GOOD.split_once("[admission]").unwrap().1;
        let node = format!("[admission]{}", node.replace("deadline = \"2s\"", ""));
        let config = parse(&node, false).unwrap();
        assert!(config.server.is_none(), "a node listens nowhere");
        assert_eq!(config.deadline, DEADLINE);
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_its_line() {
        let text = GOOD
            .replace("listen", "lisen")
            .replace("key = \"a.pem\"", "key = \"gone.pem\"")
            .replace("\"b.yaml\"", "\"gone.yaml\", 7")
            .replace("[\"a.pem\"]", "\"a.pem\"")
            .replace("prod-eu", "Prod EU")
            .replace("2s", "30s");
        let mut found = parse(&text, true).unwrap_err();
        found.sort();
        let expected = [
            "line 1: lisen is unknown; did you mean \"listen\"?".to_owned(),
            "line 1: listen is missing".to_owned(),
            "line 4: tls.key: expected the name of a file that is there, found \"gone.pem\"".to_owned(),
            "line 6: admission.policy: expected the name of a file that is there, found \"gone.yaml\"".to_owned(),
            "line 6: admission.policy: expected texts in quotes, found integer".to_owned(),
            "line 7: admission.trusted-root: expected a list of texts, found string".to_owned(),
            "line 8: admission.cluster: expected a name of lower-case letters, digits, '-' and '.', found \"Prod EU\"".to_owned(),
            "line 9: admission.deadline: expected a duration above 0s and below 30s, which is as long as API servers wait, found \"30s\"".to_owned(),
        ];
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected);
        let found = parse("listen = \"127.0.0.1:0\"", true).unwrap_err().join("\n");
        assert!(found.contains("add [tls]") && found.contains("add [admission]"), "{found}");
        let found = parse("[admission]\ncluster = \"x\"", false).unwrap_err();
        assert_eq!(
            found,
            ["line 1: admission.policy is missing", "line 1: admission.trusted-root is missing"]
        );
    }
}
