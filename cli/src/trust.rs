//! Where a command's trust comes from: files, what `trust init` keeps, or a development instance on this
//! machine.

use crate::args::Trust;
use crate::failure::Failure;
use crate::runtime::{block_on, within};
use countersign_client::http::{Http, is_loopback};
use countersign_client::trust::{ClientTrustConfig, SigningConfig};
use countersign_client::trust_store::{self, Age, GRACE, Store, Stored};
use countersign_verify::TrustedRoot;
use countersign_verify::json;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use countersign_verify::trusted_root::{self, wire};
use jiff::Timestamp;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Trust, and perhaps where to sign.
pub(crate) struct Loaded {
    /// One, but for verification perhaps several; each stands alone.
    pub(crate) roots: Vec<TrustedRoot>,
    pub(crate) signing: Option<SigningConfig>,
}

impl Loaded {
    /// The trusted root, where there can be one only.
    pub(crate) fn root(self) -> Result<(TrustedRoot, Option<SigningConfig>), Failure> {
        match <[_; 1]>::try_from(self.roots) {
            Ok([root]) => Ok((root, self.signing)),
            Err(roots) => Err(Failure::unclear(format!(
                "expected one --trusted-root here, found {}",
                roots.len()
            ))),
        }
    }
}

const NO_TRUST: &str = "run `countersign trust init` once for Sigstore's public instance (`countersign trust init --help` for a private one), or give --trust-config FILE, --trusted-root FILE, or --instance URL of a development instance on this machine";

/// All the time that a refresh may take which nobody asked for.
const QUIET_REFRESH: Duration = Duration::from_secs(5);

/// Where trust is to come from.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Choice {
    /// A ClientTrustConfig.
    Config(PathBuf),
    /// Trusted roots, each for itself.
    Roots(Vec<PathBuf>),
    /// What `trust init` keeps.
    Stored(Stored),
    /// A development instance.
    Instance(Url),
}

/// Trust as it lies in files, not yet checked.
pub(crate) enum Files {
    /// A ClientTrustConfig.
    Config(Vec<u8>),
    /// Trusted roots, and perhaps a signing config.
    Parts { roots: Vec<Vec<u8>>, signing: Option<Vec<u8>> },
}

/// What a file of trust is, by its members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A ClientTrustConfig.
    Config,
    /// A trusted root.
    TrustedRoot,
}

impl Kind {
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let has = |members: &[&str]| members.iter().any(|member| json.get(member).is_some());
        let root = has(&["tlogs", "certificateAuthorities", "certificate_authorities"]);
        match has(&["trustedRoot", "trusted_root"]) {
            true => Some(Self::Config),
            false => root.then_some(Self::TrustedRoot),
        }
    }
}

impl Files {
    /// Reads and checks them.
    pub(crate) fn load(&self) -> Result<Loaded, countersign_client::trust::Error> {
        match self {
            Self::Config(bytes) => {
                let config = ClientTrustConfig::parse(bytes)?;
                let (roots, signing) = (vec![config.trusted_root()?], Some(config.signing_config));
                Ok(Loaded { roots, signing })
            }
            Self::Parts { roots, signing } => {
                let signing = signing.as_deref().map(SigningConfig::parse).transpose()?;
                let roots = Self::read(roots)?;
                let roots = roots.iter().map(TrustedRoot::from_wire);
                Ok(Loaded { roots: roots.collect::<Result<_, _>>()?, signing })
            }
        }
    }

    /// What to do if one file was given for the other.
    fn mistaken(&self) -> Option<&'static str> {
        match self {
            Self::Config(bytes) => (Kind::of(bytes) == Some(Kind::TrustedRoot))
                .then_some("it is a trusted root: give it with --trusted-root"),
            Self::Parts { roots, .. } => {
                let config = roots.iter().any(|root| Kind::of(root) == Some(Kind::Config));
                config.then_some("it is a client trust config: give it with --trust-config")
            }
        }
    }

    /// The members of the trusted roots, as written.
    pub(crate) fn wire(&self) -> Result<Vec<wire::TrustedRoot>, countersign_client::trust::Error> {
        match self {
            Self::Config(bytes) => Ok(vec![ClientTrustConfig::parse(bytes)?.trusted_root]),
            Self::Parts { roots, .. } => Ok(Self::read(roots)?),
        }
    }

    /// Each file has a root, or several one after the other, as `gh attestation trusted-root` writes them.
    fn read(files: &[Vec<u8>]) -> Result<Vec<wire::TrustedRoot>, trusted_root::Error> {
        let mut roots = Vec::new();
        for file in files {
            let before = roots.len();
            for root in json::values(file) {
                let message = |error: serde_json::Error| error.to_string();
                let root = root.map_err(message);
                roots.push(root.map_err(|message| trusted_root::Error::Json { message })?);
            }
            if roots.len() == before {
                let message = "the file is empty".to_owned();
                return Err(trusted_root::Error::Json { message });
            }
        }
        Ok(roots)
    }
}

impl Choice {
    /// What a flag names; only without any of them what the environment names, files first. Whoever
    /// names a root on the command line must never get an answer by another one.
    pub(crate) fn find(
        flags: &Trust,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let first = |config: Option<PathBuf>, roots: Vec<PathBuf>, instance: Option<Url>| {
            let roots = (!roots.is_empty()).then_some(roots).map(Self::Roots);
            config.map(Self::Config).or(roots).or_else(|| instance.map(Self::Instance))
        };
        let Trust { trust_config, trusted_root, instance } = flags.clone();
        match first(trust_config, trusted_root, instance) {
            Some(Self::Instance(url)) => return Self::instance(url, &env),
            Some(choice) => return Ok(choice),
            None => {}
        }
        let path = |name| set(env(name)).map(PathBuf::from);
        let root = path("COUNTERSIGN_TRUSTED_ROOT").into_iter().collect();
        let files = first(path("COUNTERSIGN_TRUST_CONFIG"), root, None);
        if let Some(choice) = files {
            return Ok(choice);
        }
        if let Some(instance) = set(env("COUNTERSIGN_INSTANCE")) {
            let url = instance.to_str().and_then(|text| Url::parse(text).ok());
            let url = url.ok_or_else(|| Failure::unclear("COUNTERSIGN_INSTANCE is not a URL"))?;
            return Self::instance(url, &env);
        }
        let stored = Store::find(&env).map(|store| store.default_instance()).transpose();
        stored.map_err(failure)?.flatten().map(Self::Stored).ok_or_else(|| {
            Failure::unclear("no trust is configured, so nothing can be verified").hint(NO_TRUST)
        })
    }

    /// The instance kept for `url`; else it is one for development.
    fn instance(url: Url, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        if url.path().starts_with("/shards/") {
            return Err(Failure::unclear(format!("{url} is a shard of a log, and no instance"))
                .hint("give the URL before /shards/; commands that read a log name a shard with --shard"));
        }
        let stored = Store::find(env).map(|store| store.by_url(&url)).transpose();
        Ok(stored.map_err(failure)?.flatten().map_or(Self::Instance(url), Self::Stored))
    }

    /// By the flags and this process's environment.
    pub(crate) fn of(flags: &Trust) -> Result<Self, Failure> {
        Self::find(flags, |name| std::env::var_os(name))
    }

    /// Whether no network is needed.
    pub(crate) const fn is_file(&self) -> bool {
        !matches!(self, Self::Instance(_))
    }

    /// Loads it; stored trust that is due is refreshed first.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        self.load_with(false)
    }

    /// Loads it, without the network if `offline`. Stored trust must not be too old.
    pub(crate) fn load_with(&self, offline: bool) -> Result<Loaded, Failure> {
        if let Self::Stored(stored) = self {
            make_ready(stored, offline, Timestamp::now())?;
        }
        let files = self.files()?;
        files.load().map_err(|error| {
            let failure = Failure::unclear(format!("{self}: {error}"));
            match files.mistaken() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    /// Its files, of whatever age.
    pub(crate) fn files(&self) -> Result<Files, Failure> {
        Ok(match self {
            Self::Config(path) => Files::Config(read(path)?),
            Self::Roots(paths) => {
                let roots = paths.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
                Files::Parts { roots, signing: None }
            }
            Self::Stored(stored) => Files::Parts {
                roots: vec![stored.trusted_root().map_err(failure)?],
                signing: stored.signing_config().map_err(failure)?,
            },
            Self::Instance(url) => Files::Config(block_on(fetch(url))??),
        })
    }
}

/// What to do about keys that the trust which `flags` name does not know.
pub(crate) fn renewal(flags: &Trust) -> String {
    let newer = "if the instance has changed its keys since, get its newer client_trust_config.json (`countersign trust init --file FILE`, or --trust-config FILE)";
    match Choice::of(flags) {
        Ok(Choice::Stored(stored)) if stored.pin().is_ok_and(|pin| pin.root.is_some()) => {
            format!(
                "the keys known are those in {}; `countersign trust update` gets newer ones",
                stored.dir().display()
            )
        }
        Ok(choice) => format!("the keys known are those in {choice}; {newer}"),
        Err(_) => newer.to_owned(),
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(path) => path.display().fmt(f),
            Self::Roots(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(", "))
            }
            Self::Stored(stored) => stored.dir().display().fmt(f),
            Self::Instance(url) => url.fmt(f),
        }
    }
}

/// Refreshes stored trust if it is due and may be, and refuses what is too old.
fn make_ready(stored: &Stored, offline: bool, now: Timestamp) -> Result<(), Failure> {
    let mut state = stored.state().map_err(failure)?;
    if !offline && stored.should_refresh(&state, now) {
        let refresh = trust_store::update(stored, now, QUIET_REFRESH, Duration::ZERO);
        match within(refresh)? {
            Err(error) if error.is_refusal() => {
                warn(&format!("trust was not refreshed, and is as it was: {error}"));
            }
            // What could not be reached may come back; its age decides.
            Err(_) | Ok(_) => {}
        }
        state = stored.state().map_err(failure)?;
    }
    match state.age(now) {
        Age::Fresh => Ok(()),
        Age::Stale { expired } => {
            let until = expired + GRACE;
            warn(&format!(
                "trust expired on {expired:.0} and could not be refreshed; it is used until {until:.0}. Run `countersign trust update`"
            ));
            Ok(())
        }
        Age::Expired { expired } => Err(Failure::unclear(format!(
            "trust expired on {expired:.0}, more than {} days ago, so keys may have been revoked since",
            GRACE.as_hours() / 24
        ))
        .hint("run `countersign trust update`")),
    }
}

fn warn(message: &str) {
    let label = console::style("warning:").yellow().bold().for_stderr();
    eprintln!("{label} {}", crate::output::visible(message));
}

/// What can be done about each way in which stored trust fails.
pub(crate) fn failure(error: trust_store::Error) -> Failure {
    use trust_store::Error;
    let hint = match &error {
        Error::Damaged { path, .. } => {
            let dir = path.parent().unwrap_or(path).display();
            format!("remove {dir}, and run `countersign trust init` as the first time")
        }
        Error::File { .. } => "set COUNTERSIGN_TRUST_DIR to a folder of yours".to_owned(),
        Error::Busy { .. } => "try again in a moment".to_owned(),
        Error::NoRepository => "`countersign trust init --file FILE` takes a newer file".to_owned(),
        Error::OtherRoot { .. } => {
            "if the instance was set up anew, remove its folder (`countersign trust show` names it), and run `countersign trust init` again".to_owned()
        }
        Error::Fingerprint { .. } => {
            "ask whoever runs the instance, by a way you trust, for the digest of its root.json".to_owned()
        }
        error if error.is_refusal() => {
            "nothing was changed; what the repository serves must not be used, tell whoever runs it".to_owned()
        }
        _ => "nothing was changed; is the URL right, and is the network there?".to_owned(),
    };
    let message = error.to_string();
    let failure = if error.is_refusal() { Failure::no(message) } else { Failure::unclear(message) };
    failure.hint(hint)
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

async fn fetch(url: &Url) -> Result<Vec<u8>, Failure> {
    if !is_loopback(url) {
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

/// The bytes of a file, or of standard input for `-`, that must have at most `limit`.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let input: Box<dyn std::io::Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    input.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        let message = format!("{} is larger than {limit} bytes, the limit for it", path.display());
        return Err(Failure::unclear(message));
    }
    Ok(bytes)
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
        let nothing = || Trust { trust_config: None, trusted_root: vec![], instance: None };
        let url: Url = "http://127.0.0.1:2".parse().unwrap();
        for (flags, expected) in [
            (
                Trust { trusted_root: vec!["r".into()], ..nothing() },
                Choice::Roots(vec!["r".into()]),
            ),
            (Trust { trust_config: Some("c".into()), ..nothing() }, Choice::Config("c".into())),
            (Trust { instance: Some(url.clone()), ..nothing() }, Choice::Instance(url)),
            (nothing(), Choice::Config("COUNTERSIGN_TRUST_CONFIG".into())),
        ] {
            assert_eq!(Choice::find(&flags, everything).unwrap(), expected);
        }
        assert!(Choice::find(&nothing(), |_| Some(OsString::new())).is_err(), "empty is unset");
    }
}
