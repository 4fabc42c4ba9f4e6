//! `countersign trust`: what this machine keeps of whom to trust.

use crate::args::{Format, TrustCommand, TrustInit};
use crate::failure::Failure;
use crate::output;
use crate::runtime::within;
use crate::trust::{Choice, Kind, failure, read_bounded};
use countersign_client::embedded::embedded;
use countersign_client::trust::ClientTrustConfig;
use countersign_client::trust_store::{
    self, Age, Change, Pin, Source, Start, State, Store, Stored, fetch_root,
};
use countersign_verify::TrustedRoot;
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, from_hex, hex};
use countersign_verify::key::HashAlgorithm;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use countersign_verify::trusted_root::{Error, wire};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use url::Url;

/// All the time that a refresh may take which somebody asked for.
const LIMIT: Duration = Duration::from_secs(60);

/// From how many days before its end a key or authority is marked: time to publish the next one.
const SOON: i64 = 30;

pub(crate) fn run(command: &TrustCommand) -> Result<ExitCode, Failure> {
    match command {
        TrustCommand::Init(args) => init(args)?,
        TrustCommand::Update { instance } => update(instance.as_ref())?,
        TrustCommand::Show { trust, output } => {
            let choice = Choice::of(trust)?;
            let shown = Shown::new(&choice, Timestamp::now())?;
            output::print(&match output {
                Format::Json => format!("{}\n", shown.json()),
                Format::Text => output::visible(&shown.text()),
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn store() -> Result<Store, Failure> {
    Store::find(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::unclear("expected a folder to keep trust in, found no HOME")
            .hint("set COUNTERSIGN_TRUST_DIR")
    })
}

fn init(args: &TrustInit) -> Result<(), Failure> {
    let (store, now) = (store()?, Timestamp::now());
    let (stored, change) = match &args.file {
        Some(path) => {
            let bytes = read_bounded(path, MAX_TRUSTED_ROOT)?;
            init_file(&store, args.url.as_ref(), &bytes, now)?
        }
        None => {
            let start = start(args)?;
            within(trust_store::init(&store, &start, now, LIMIT))?.map_err(failure)?
        }
    };
    let name = name(&stored.pin().map_err(failure)?);
    let keys = Elements::of(&stored.trusted_root().map_err(failure)?)?.0.len();
    let done = if change.before.is_some() { "refreshed" } else { "initialised" };
    let end = match change.after.expires {
        Some(expires) => format!("expires {expires:.0}, refreshed daily when used"),
        None => "never refreshed: it came from a file".to_owned(),
    };
    output::print(&output::visible(&format!(
        "{done}: {name}, now used by default\n  {keys} keys and authorities, {end}\n  kept in {}\n",
        stored.dir().display()
    )))
}

/// Where a refresh begins; never with a root that nothing vouches for.
fn start(args: &TrustInit) -> Result<Start, Failure> {
    let Some(url) = &args.url else {
        let embedded = embedded(args.staging);
        let url = Url::parse(embedded.tuf_url).expect("a constant");
        return Ok(Start { url, root: embedded.tuf_root.to_vec(), source: Source::Embedded });
    };
    if let Some(path) = &args.root {
        let root = read_bounded(path, MAX_TRUSTED_ROOT)?;
        if let Some(kind) = Kind::of(&root) {
            let found = match kind {
                Kind::Config => "a client trust config",
                Kind::TrustedRoot => "a trusted root",
            };
            let path = path.display();
            return Err(Failure::unclear(format!("{path}: expected the root.json of a TUF repository, found {found}"))
                .hint(format!("countersign trust init --file {path} {url} keeps it as it is; without TUF nothing refreshes it")));
        }
        return Ok(Start { url: url.clone(), root, source: Source::RootFile });
    }
    if let Some(fingerprint) = &args.fingerprint {
        let digest = digest(fingerprint)?;
        let root = within(fetch_root(url, &digest, LIMIT))?.map_err(failure)?;
        return Ok(Start { url: url.clone(), root, source: Source::Fingerprint });
    }
    for known in [embedded(false), embedded(true)] {
        if known.tuf_url.trim_end_matches('/') == url.as_str().trim_end_matches('/') {
            let root = known.tuf_root.to_vec();
            return Ok(Start { url: url.clone(), root, source: Source::Embedded });
        }
    }
    Err(Failure::unclear(format!(
        "nothing vouches for the root of {url}: whoever answers there could name any keys"
    ))
    .hint("give --root FILE or --fingerprint sha256:HEX of its root.json, got by a way you trust"))
}

fn digest(text: &str) -> Result<[u8; 32], Failure> {
    let bytes = text.strip_prefix("sha256:").and_then(|hex| from_hex(&hex.to_lowercase()).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Failure::unclear(format!("expected sha256: and 64 hexadecimal digits, found {text:?}"))
            .hint("sha256sum root.json prints the digits")
    })
}

/// Either file, told apart by its members.
fn init_file(
    store: &Store,
    url: Option<&Url>,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(Stored, Change), Failure> {
    let parts: Option<Value> = serde_json::from_slice(bytes).ok();
    let part = |name, protobuf| {
        let json = parts.as_ref()?;
        json.get(name).or_else(|| json.get(protobuf)).map(Value::to_string)
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::unclear(error.to_string())
            .hint("expected a client_trust_config.json or a trusted_root.json")
    };
    let root = part("trustedRoot", "trusted_root");
    let result = match (root, part("signingConfig", "signing_config")) {
        (Some(root), signing) => {
            ClientTrustConfig::parse(bytes).map_err(|error| wrong(&error))?;
            let signing = signing.as_ref().map(String::as_bytes);
            trust_store::init_file(store, url, root.as_bytes(), signing, now)
        }
        (None, _) => trust_store::init_file(store, url, bytes, None, now),
    };
    result.map_err(|error| match error {
        trust_store::Error::Target { .. } => wrong(&error),
        error => failure(error),
    })
}

fn update(instance: Option<&Url>) -> Result<(), Failure> {
    let store = store()?;
    let stored = match instance {
        Some(url) => store.by_url(url),
        None => store.default_instance(),
    };
    let stored = stored.map_err(failure)?.ok_or_else(|| {
        let what = instance.map_or("there is no stored trust".to_owned(), |url| {
            format!("{url} is not an instance that was initialised")
        });
        Failure::unclear(what).hint("run `countersign trust init` first")
    })?;
    let before = Elements::of(&stored.trusted_root().map_err(failure)?)?;
    let update = trust_store::update(&stored, Timestamp::now(), LIMIT, LIMIT);
    let change = within(update)?.map_err(failure)?;
    let after = Elements::of(&stored.trusted_root().map_err(failure)?)?;
    let mut text = format!("refreshed: {}\n", name(&stored.pin().map_err(failure)?));
    text.push_str(&versions(&change));
    let lines = |sign, these: &Elements, others: &Elements| {
        let new = these.0.iter().filter(|e| !others.0.iter().any(|other| other.same(e)));
        new.map(|e| format!("  {sign} {} {} {}\n", e.kind, e.url, e.id)).collect::<String>()
    };
    let changed = lines('+', &after, &before) + &lines('-', &before, &after);
    text.push_str(if changed.is_empty() { "  the same keys and authorities\n" } else { &changed });
    output::print(&output::visible(&text))
}

/// What became of the versions, one line each.
fn versions(change: &Change) -> String {
    let before = change.before.as_ref().and_then(|state| state.versions);
    let Some((before, after)) = before.zip(change.after.versions) else { return String::new() };
    [
        ("root", before.root, after.root),
        ("timestamp", before.timestamp, after.timestamp),
        ("snapshot", before.snapshot, after.snapshot),
        ("targets", before.targets, after.targets),
    ]
    .into_iter()
    .map(|(role, before, after)| match before == after {
        true => format!("  {role} {after}\n"),
        false => format!("  {role} {before} -> {after}\n"),
    })
    .collect()
}

/// An instance as people call it.
fn name(pin: &Pin) -> String {
    let start = match pin.source {
        Source::Embedded => "its TUF root is part of this program",
        Source::RootFile => "its TUF root was given as a file",
        Source::Fingerprint => "its TUF root was given by digest",
        Source::File => "from a file",
    };
    match &pin.url {
        Some(url) => format!("{url} ({start})"),
        None => format!("an instance {start}"),
    }
}

/// One key or authority.
struct Element {
    kind: &'static str,
    id: String,
    url: String,
    window: Option<wire::Window>,
    /// The first end of validity among its certificates.
    certificates_end: Option<Timestamp>,
    /// Why nothing is verified by it.
    unfit: Option<String>,
}

impl Element {
    fn log(kind: &'static str, log: &wire::Log) -> Self {
        let (id, url) = (base64(&log.log_id.key_id), log.base_url.clone());
        let window = log.public_key.valid_for.clone();
        Self { kind, id, url, window, certificates_end: None, unfit: None }
    }

    fn authority(kind: &'static str, authority: &wire::Authority) -> Self {
        let certificates = &authority.cert_chain.certificates;
        let digest = |c: &wire::Certificate| hex(&HashAlgorithm::Sha256.digest(&c.raw_bytes));
        let ends = certificates.iter().filter_map(|c| Certificate::parse(&c.raw_bytes).ok());
        Self {
            kind,
            id: certificates.first().map(digest).unwrap_or_default(),
            url: authority.uri.clone(),
            window: authority.valid_for.clone(),
            certificates_end: ends.map(|certificate| certificate.not_after()).min(),
            unfit: None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.id == other.id
    }

    fn window_end(&self) -> Option<Timestamp> {
        self.window.as_ref().and_then(|window| window.end)
    }

    fn start(&self) -> Option<Timestamp> {
        self.window.as_ref().and_then(|window| window.start)
    }

    fn status(&self, now: Timestamp) -> &'static str {
        let left = [self.window_end(), self.certificates_end].into_iter().flatten().min();
        match left {
            _ if self.unfit.is_some() => "unfit",
            _ if self.start().is_some_and(|start| now < start) => "future",
            Some(end) if end < now => "expired",
            Some(end) if days(now, end) < SOON => "expires soon",
            _ => "valid",
        }
    }

    fn json(&self, now: Timestamp) -> Value {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        json!({ "kind": self.kind, "id": self.id, "url": self.url, "status": self.status(now),
            "start": time(self.start()), "end": time(self.window_end()),
            "daysLeft": self.window_end().map(|end| days(now, end)),
            "certificatesEnd": time(self.certificates_end),
            "certificatesDaysLeft": self.certificates_end.map(|end| days(now, end)),
            "unfit": self.unfit })
    }

    fn text(&self, now: Timestamp) -> String {
        let start = self.start().map_or("any time".to_owned(), |start| format!("{start:.0}"));
        let end = self
            .window_end()
            .map_or("no end".to_owned(), |end| format!("{end:.0} ({})", left(now, end)));
        let mut text = format!("{}: {} {}\n", self.status(now), self.kind, self.url);
        let _ = writeln!(text, "  id {}", self.id);
        let _ = writeln!(text, "  trusted from {start}, {end}");
        if let Some(end) = self.certificates_end {
            let _ = writeln!(text, "  certificates until {end:.0} ({})", left(now, end));
        }
        if let Some(reason) = &self.unfit {
            let _ = writeln!(text, "  nothing is verified by it: {reason}");
        }
        text
    }
}

/// Whole days until `end`; negative when it has passed.
fn days(now: Timestamp, end: Timestamp) -> i64 {
    end.duration_since(now).as_hours().div_euclid(24)
}

fn left(now: Timestamp, end: Timestamp) -> String {
    match days(now, end) {
        days @ 0.. => format!("{days} days left"),
        days => format!("{} days ago", -days),
    }
}

/// Everything in a trusted root.
struct Elements(Vec<Element>);

impl Elements {
    fn of(trusted_root: &[u8]) -> Result<Self, Failure> {
        let root: wire::TrustedRoot = countersign_verify::json::from_slice(trusted_root)
            .map_err(|error| Failure::unclear(format!("not a trusted root: {error}")))?;
        Ok(Self::new(&root))
    }

    fn new(root: &wire::TrustedRoot) -> Self {
        let logs = root.tlogs.iter().map(|log| Element::log("log", log));
        let certificate_logs = root.ctlogs.iter().map(|log| Element::log("certificate log", log));
        let certificates = root.certificate_authorities.iter();
        let certificates = certificates.map(|ca| Element::authority("certificate authority", ca));
        let timestamps = root.timestamp_authorities.iter();
        let read = TrustedRoot::from_wire(root).unwrap_or_default();
        let unfit = |place| {
            read.unfit().iter().find_map(|left_out| match left_out {
                Error::Element { index, reason, .. } if *index == place => Some(reason.to_string()),
                _ => None,
            })
        };
        let timestamps = timestamps.enumerate().map(|(place, tsa)| {
            let authority = Element::authority("timestamp authority", tsa);
            Element { unfit: unfit(place), ..authority }
        });
        Self(logs.chain(certificates).chain(certificate_logs).chain(timestamps).collect())
    }
}

/// What `trust show` shows.
struct Shown {
    name: String,
    source: &'static str,
    place: String,
    url: Option<String>,
    state: Option<State>,
    elements: Elements,
    now: Timestamp,
}

impl Shown {
    fn new(choice: &Choice, now: Timestamp) -> Result<Self, Failure> {
        let wrong = |error| Failure::unclear(format!("{choice}: {error}"));
        let files = choice.files()?;
        files.load().map_err(wrong)?;
        let roots = files.wire().map_err(wrong)?;
        let elements = Elements(roots.iter().flat_map(|root| Elements::new(root).0).collect());
        let place = choice.to_string();
        let (name, source, url, state) = match choice {
            Choice::Config(_) => (format!("trust config {place}"), "trust-config", None, None),
            Choice::Roots(_) => (format!("trusted root {place}"), "trusted-root", None, None),
            Choice::Instance(url) => {
                (format!("development instance {url}"), "development", Some(url.to_string()), None)
            }
            Choice::Stored(stored) => {
                let pin = stored.pin().map_err(failure)?;
                let source = match pin.source {
                    Source::Embedded => "embedded",
                    Source::RootFile => "root-file",
                    Source::Fingerprint => "fingerprint",
                    Source::File => "file",
                };
                let state = Some(stored.state().map_err(failure)?);
                (name(&pin), source, pin.url.map(|url| url.to_string()), state)
            }
        };
        Ok(Self { name, source, place, url, state, elements, now })
    }

    fn json(&self) -> Value {
        let state = self.state.as_ref();
        let versions = state.and_then(|state| state.versions).map(|v| {
            json!({ "root": v.root, "timestamp": v.timestamp, "snapshot": v.snapshot,
                "targets": v.targets })
        });
        let elements: Vec<Value> = self.elements.0.iter().map(|e| e.json(self.now)).collect();
        json!({ "schema": "countersign.trust/1", "instance": self.url, "source": self.source,
            "path": self.place, "versions": versions,
            "refreshed": state.map(|state| state.refreshed.to_string()),
            "expires": state.and_then(|state| state.expires).map(|time| time.to_string()),
            "elements": elements })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        if let Some(state) = &self.state {
            let _ = writeln!(text, "  kept in {}", self.place);
            let _ = writeln!(text, "  last refreshed {:.0}", state.refreshed);
            if let Some(expires) = state.expires {
                let mark = match state.age(self.now) {
                    Age::Fresh => "",
                    Age::Stale { .. } => "; run `countersign trust update`",
                    Age::Expired { .. } => "; refused: run `countersign trust update`",
                };
                let left = left(self.now, expires);
                let _ = writeln!(text, "  metadata expires {expires:.0} ({left}){mark}");
            }
            if let Some(v) = state.versions {
                let (root, timestamp, snapshot, targets) =
                    (v.root, v.timestamp, v.snapshot, v.targets);
                let _ = writeln!(
                    text,
                    "  versions: root {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets}"
                );
            }
        }
        let elements = self.elements.0.iter().map(|element| element.text(self.now));
        elements.for_each(|element| text.push_str(&element));
        text
    }
}
