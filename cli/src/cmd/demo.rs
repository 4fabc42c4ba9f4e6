//! `countersign demo`: the whole story on loopback, in a few seconds, with nothing left behind.

use crate::cmd::dev::listen;
use crate::failure::Failure;
use crate::idp::{Job, Provider, Whom};
use crate::instance::{Directory, development};
use crate::output;
use crate::runtime::on_all_cores;
use crate::server::{Role, Server};
use console::style;
use countersign_client::sign::{Patience, Subject, sign};
use countersign_client::token::IdentityToken;
use countersign_client::trust::{ClientTrustConfig, Services};
use countersign_front::Limits;
use countersign_policy::Signers;
use countersign_verify::bundle::LogEntry;
use countersign_verify::encoding::hex;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::merkle::InclusionProof;
use countersign_verify::{Artifact, Bundle, Report, TrustedRoot, signed_checkpoint, verify_json};
use jiff::Timestamp;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn run() -> Result<ExitCode, Failure> {
    on_all_cores(story())?
}

/// An instance of the demo, and what a client knows of it.
struct Demo {
    server: Server,
    provider: Arc<Provider>,
    root: TrustedRoot,
    services: Services,
    _folder: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Result<Self, Failure> {
        let failed =
            |error| Failure::unclear(format!("cannot make a temporary directory: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let directory = Directory::open(folder.path())?;
        let (listener, url) = listen(([127, 0, 0, 1], 0).into(), None, None).await?;
        let instance = development::open(directory, &url, Vec::new(), None, None).await?;
        let server = Server::start(instance, listener, Limits::default(), None, &Role::ALL);
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let running = server.instance().services();
        let json = running.trust.client_trust_config.as_bytes();
        let config = ClientTrustConfig::parse(json).map_err(|error| unclear(&error))?;
        let root = config.trusted_root().map_err(|error| unclear(&error))?;
        let services = config.signing_config.select(Timestamp::now());
        let services = services.map_err(|error| unclear(&error))?;
        let provider = running.provider.clone();
        let provider = provider.ok_or_else(|| Failure::unclear("there is no identity provider"))?;
        Ok(Self { server, provider, root, services, _folder: folder })
    }

    async fn sign(&self, artifact: &Artifact) -> Result<Bundle, Failure> {
        let job = Job {
            repository: "acme/widget".to_owned(),
            git_ref: "refs/tags/v1.0.0".to_owned(),
            workflow: "release.yml".to_owned(),
            event: "push".to_owned(),
        };
        let token = self.provider.mint(&Whom::Github(job))?;
        let token =
            IdentityToken::parse(&token).map_err(|error| Failure::unclear(error.to_string()))?;
        let (subject, patience) = (Subject::Artifact(artifact), Patience::default());
        let signed = sign(subject, &token, &self.services, &self.root, patience, None).await;
        signed.map(|signed| signed.bundle).map_err(|error| Failure::unclear(error.to_string()))
    }
}

async fn story() -> Result<ExitCode, Failure> {
    let start = Instant::now();
    say("Two private instances start, each with its own keys, logs and authorities.")?;
    let (demo, other) = (Demo::start().await?, Demo::start().await?);
    let started = start.elapsed();
    let people = |demo: &Demo| demo.provider.people();
    note(&format!("{} and {}", people(&demo), people(&other)))?;

    let path = std::env::current_exe();
    let path =
        path.map_err(|error| Failure::unclear(format!("cannot find this program: {error}")))?;
    let artifact = Artifact::from_bytes(
        &std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?,
    );
    say(&format!("A CI job signs a real file, {}, without any key of its own.", name(&path)))?;
    let now = Instant::now();
    let bundle = demo.sign(&artifact).await?;
    let signed = now.elapsed();
    let json = bundle.to_json();
    note(&format!("sha256:{}", hex(artifact.digest(HashAlgorithm::Sha256).unwrap_or_default())))?;
    note(&format!(
        "the key lived for {}; what remains is a bundle of {} bytes",
        shown(signed),
        json.len()
    ))?;

    say("It verifies: signature, certificate, timestamp, both logs, and who signed.")?;
    let now = Instant::now();
    let report = verify_json(json.as_bytes(), &artifact, &demo.root);
    let verified = now.elapsed();
    let workflow = "https://github.com/acme/widget/.github/workflows/release.yml@refs/tags/v1.0.0";
    let issuer = demo.provider.ci();
    let policy = Signers::exactly(workflow, &issuer);
    accepted(&report, &policy)?;

    say("Anybody can check that the signature is on record, from the log's own signed tree head.")?;
    let entry = bundle.entries().first().ok_or_else(|| broken("the bundle has no log entry"))?;
    included(entry, &demo.root)?;

    say("One byte of the file is changed.")?;
    let mut bytes = std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
    let tampered = Artifact::from_bytes(&bytes);
    refused(&verify_json(json.as_bytes(), &tampered, &demo.root))?;

    say("Someone else's workflow is expected.")?;
    let expected = "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main";
    refused_by(&report, &Signers::exactly(expected, &issuer))?;

    say("The same job signs at the other instance, which this one does not trust.")?;
    let foreign = other.sign(&artifact).await?.to_json();
    refused(&verify_json(foreign.as_bytes(), &artifact, &demo.root))?;

    demo.server.stop().await?;
    other.server.stop().await?;
    let total = start.elapsed();
    say(&format!(
        "Done in {}: started in {}, signed in {}, verified in {}. Nothing is left behind.",
        shown(total),
        shown(started),
        shown(signed),
        shown(verified)
    ))?;
    note("next: `countersign dev` keeps an instance running and prints what to paste")?;
    Ok(ExitCode::SUCCESS)
}

fn accepted(report: &Report, policy: &Signers) -> Result<(), Failure> {
    let verified = report.result().map_err(|error| broken(&error.to_string()))?;
    policy.accept(verified).map_err(|refusal| broken(&refusal.to_string()))?;
    let identity = verified.identity().ok_or_else(|| broken("no certificate signed"))?;
    mark(
        &style("accepted").green().bold().to_string(),
        &format!("signed by {}", identity.subject().as_str()),
    )?;
    for time in verified.times() {
        note(&format!("before {}, says {}", time.time, time.authority))?;
    }
    Ok(())
}

fn included(entry: &LogEntry, root: &TrustedRoot) -> Result<(), Failure> {
    let proof = entry.proof.as_ref().ok_or_else(|| broken("the entry has no proof"))?;
    let log = root.logs().iter().find(|log| *log.id() == entry.log_id);
    let log = log.ok_or_else(|| broken("the entry is of another log"))?;
    let checkpoint =
        signed_checkpoint(&proof.checkpoint, log).map_err(|error| broken(&error.to_string()))?;
    let path = InclusionProof::new(entry.log_index, checkpoint.size, proof.hashes.clone());
    let checked = path.and_then(|path| path.verify(&entry.body, &checkpoint.root));
    checked.map_err(|error| broken(&error.to_string()))?;
    let found = format!(
        "entry {} of {} leads to root {}",
        entry.log_index, checkpoint.size, checkpoint.root
    );
    mark(&style("accepted").green().bold().to_string(), &found)
}

fn refused(report: &Report) -> Result<(), Failure> {
    match report.result() {
        Ok(_) => Err(broken("a forgery was accepted")),
        Err(error) => mark(&style("refused").red().bold().to_string(), &error.to_string()),
    }
}

fn refused_by(report: &Report, policy: &Signers) -> Result<(), Failure> {
    let verified = report.result().map_err(|error| broken(&error.to_string()))?;
    match policy.accept(verified) {
        Ok(_) => Err(broken("another identity was accepted")),
        Err(refusal) => mark(&style("refused").red().bold().to_string(), &refusal.to_string()),
    }
}

fn broken(reason: &str) -> Failure {
    Failure::no(format!("the demo failed, which is a defect: {reason}"))
}

fn say(text: &str) -> Result<(), Failure> {
    output::print(&format!("\n{}\n", style(text).bold()))
}

fn mark(verdict: &str, text: &str) -> Result<(), Failure> {
    output::print(&format!("  {verdict}  {text}\n"))
}

fn note(text: &str) -> Result<(), Failure> {
    output::print(&format!("  {text}\n"))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn shown(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
