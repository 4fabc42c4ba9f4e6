//! What can be asked on the command line. Names and flags are cosign's where the meaning is the same.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod ca;
mod deferred;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod policy;
pub(crate) mod serve;
pub(crate) mod witness;

pub(crate) use deferred::Deferred;

use crate::logging::LogFormat;
use clap::builder::BoolishValueParser;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Sign software without long-lived keys, and verify who signed it.
///
/// Exit status: 0 yes; 1 no (the evidence does not hold or is none, or a service refuses); 2 could not tell (wrong
/// usage, a file that cannot be read, a service that is away).
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start two private instances on loopback, sign and verify a file, show refusals, and stop
    Demo,
    /// Run a private instance for development, with a built-in identity provider
    Dev(Deferred<Dev>),
    /// Make a production instance: keys, signing requests, a commented configuration
    Init(Deferred<serve::Init>),
    /// Run an instance by its configuration
    Serve(Deferred<serve::Serve>),
    /// Check an instance's configuration, keys, certificates, permissions, disk and clock
    Doctor(Deferred<serve::Doctor>),
    /// The keys of an instance's authorities, and the root above them
    #[command(subcommand)]
    Ca(Deferred<serve::Ca>),
    /// Print an identity token of a development instance
    Token(Deferred<Token>),
    /// Sign a file; writes <FILE>.sigstore.json
    SignBlob(Deferred<SignBlob>),
    /// Verify files' signatures, and who made them
    VerifyBlob(Deferred<VerifyBlob>),
    /// Sign a statement about files: an in-toto attestation
    AttestBlob(Deferred<AttestBlob>),
    /// Verify attestations about files, what they attest, and who made them
    VerifyBlobAttestation(Deferred<VerifyBlobAttestation>),
    /// Sign container images; the signature goes into the registry
    Sign(Deferred<image::Sign>),
    /// Verify that container images are signed, and by whom
    Verify(Deferred<image::Verify>),
    /// Sign a statement about container images, such as an SBOM or provenance
    Attest(Deferred<image::Attest>),
    /// Verify statements about container images, and who made them
    VerifyAttestation(Deferred<image::VerifyAttestation>),
    /// Show what refers to a container image
    Tree(Deferred<image::Tree>),
    /// Copy a container image with all that refers to it
    Copy(Deferred<image::Copy>),
    /// Save a container image with all that refers to it in a folder, an OCI layout
    Save(Deferred<image::Save>),
    /// Put a saved container image with all that refers to it into a registry
    Load(Deferred<image::Load>),
    /// Print what refers to a container image
    #[command(subcommand)]
    Download(Deferred<image::Download>),
    /// Store bundles made elsewhere with the container image they are about
    Attach(Deferred<image::Attach>),
    /// Remove what refers to a container image from its registry
    Clean(Deferred<image::Clean>),
    /// What the Sigstore client conformance suite calls
    #[command(subcommand, hide = true)]
    Conformance(Deferred<Conformance>),
    /// Keep and refresh whom to trust, for all commands
    #[command(subcommand)]
    Trust(Deferred<TrustCommand>),
    /// Look into bundles
    #[command(subcommand)]
    Bundle(Deferred<Bundle>),
    /// Read a transparency log
    #[command(subcommand)]
    Log(Deferred<log::Log>),
    /// The record of an instance: issuances, refusals and administrative acts
    #[command(subcommand)]
    Audit(Deferred<audit::Audit>),
    /// Run a witness: it cosigns the checkpoints of logs, and of each log one history only
    Witness(Deferred<witness::Witness>),
    /// Copy an instance, which may be running, into a folder
    Backup(Deferred<backup::Backup>),
    /// Make an instance out of a backup; its logs go on in new shards, so that nothing can fork
    Restore(Deferred<backup::Restore>),
    /// Check, test and compare policies: who may sign what, and what must be shown
    #[command(subcommand)]
    Policy(Deferred<policy::Policy>),
    /// Decide about an image by a policy, as containerd calls it before it lets an image in; see docs/admission.md
    ContainerdVerify(Deferred<admission::ContainerdVerify>),
    /// Ask an instance whether it is ready; for health checks
    Health(Deferred<Health>),
    /// Print shell completions
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object; see docs/report.md
    Json,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Dev {
    /// Where keys, logs and trust files live; made if need be
    #[arg(long, env = "COUNTERSIGN_DIR", default_value = "countersign-dev")]
    pub(crate) dir: PathBuf,
    /// Address and port to listen on; port 0 picks a free one [default: the directory's last, else 127.0.0.1:8420]
    #[arg(long, env = "COUNTERSIGN_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The URL by which clients reach it [default: http://ADDR]
    #[arg(long, env = "COUNTERSIGN_URL")]
    pub(crate) url: Option<Url>,
    /// Accept the issuers of this Fulcio configuration, too
    #[arg(long, env = "COUNTERSIGN_FULCIO_CONFIG", value_name = "FILE")]
    pub(crate) fulcio_config: Option<PathBuf>,
    /// Give certificates only to whom this policy lets sign something; see docs/policy.md
    #[arg(long, env = "COUNTERSIGN_ISSUANCE_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Allow an address beyond loopback: anyone who reaches it can sign as anyone
    #[arg(long, env = "COUNTERSIGN_LISTEN_BEYOND_LOOPBACK", value_parser = BoolishValueParser::new())]
    pub(crate) listen_beyond_loopback: bool,
    /// How the program's own log is written, on standard error; COUNTERSIGN_LOG filters it
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) witnesses: witness::Witnesses,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Token {
    /// The development instance
    #[arg(long, env = "COUNTERSIGN_INSTANCE")]
    pub(crate) instance: Url,
    /// A person's e-mail address
    #[arg(long, conflicts_with = "github", required_unless_present = "github")]
    pub(crate) email: Option<String>,
    /// A GitHub Actions job in this repository
    #[arg(long, value_name = "ORG/REPO")]
    pub(crate) github: Option<String>,
    /// The job's Git ref
    #[arg(long = "ref", default_value = "refs/heads/main", requires = "github")]
    pub(crate) git_ref: String,
    /// The job's workflow file
    #[arg(long, default_value = "release.yml", requires = "github")]
    pub(crate) workflow: String,
    /// What triggered the job
    #[arg(long, default_value = "push", requires = "github")]
    pub(crate) event: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Keep an instance's trust on this machine and use it by default; Sigstore's own unless told otherwise
    Init(TrustInit),
    /// Refresh now, and say what changed
    Update {
        /// The instance, as `trust init` was given it [default: the last one initialised]
        #[arg(long, value_name = "URL")]
        instance: Option<Url>,
    },
    /// Show whom this machine trusts, since when, and for how long
    Show {
        #[command(flatten)]
        trust: Trust,
        /// How to print it
        #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
        output: Format,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TrustInit {
    /// The TUF repository of a private instance; needs --root or --fingerprint
    pub(crate) url: Option<Url>,
    /// Its TUF root, got by a way you trust
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) root: Option<PathBuf>,
    /// The digest of its root.json
    #[arg(long, value_name = "sha256:HEX", requires = "url", conflicts_with = "root")]
    pub(crate) fingerprint: Option<String>,
    /// A client_trust_config.json or trusted_root.json instead; never refreshed. URL is then only a name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["root", "fingerprint"])]
    pub(crate) file: Option<PathBuf>,
    /// Sigstore's staging instance
    #[arg(long, conflicts_with_all = ["url", "file"])]
    pub(crate) staging: bool,
}

/// Whom to trust; without flag and environment, what `trust init` keeps. `trust::Choice` reads the environment, and only when there is none:
/// if clap read it, a file it names could not be told from one that a flag names.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Trust {
    /// One file that describes an instance: trusted root and services [env: COUNTERSIGN_TRUST_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_config: Option<PathBuf>,
    /// The keys and authorities to trust; to verify by several, each for itself, more than once [env: COUNTERSIGN_TRUSTED_ROOT]
    #[arg(long, value_name = "FILE", conflicts_with = "trust_config")]
    pub(crate) trusted_root: Vec<PathBuf>,
    /// An instance that `trust init` keeps, or a development instance on this machine [env: COUNTERSIGN_INSTANCE]
    #[arg(long, value_name = "URL", conflicts_with_all = ["trust_config", "trusted_root"])]
    pub(crate) instance: Option<Url>,
}

/// As whom and where to sign.
#[derive(Debug, ClapArgs)]
pub(crate) struct Signing {
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// The services to sign with, beside --trusted-root [env: COUNTERSIGN_SIGNING_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_config: Option<PathBuf>,
    /// The identity token, a file that holds it, or - for standard input [default: from the CI job]
    #[arg(
        long,
        env = "COUNTERSIGN_IDENTITY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN|FILE|-"
    )]
    pub(crate) identity_token: Option<String>,
    /// Log in as a person, in a browser here or by another device [default: on a terminal without a token]
    #[arg(long, env = "COUNTERSIGN_LOGIN", value_name = "HOW", conflicts_with = "identity_token")]
    pub(crate) login: Option<Login>,
    /// Send the token to a certificate authority over plain HTTP beyond this machine, too
    #[arg(long, env = "COUNTERSIGN_ALLOW_HTTP_CA", value_parser = BoolishValueParser::new())]
    pub(crate) allow_http_ca: bool,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    /// Accepted for scripts written for cosign: nothing asks here
    #[arg(long, short, hide = true)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How a person logs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Login {
    /// In a browser on this machine
    Browser,
    /// On any other device
    Device,
}

/// What becomes of a bundle about files.
#[derive(Debug, ClapArgs)]
pub(crate) struct Keeping {
    /// Where to write the bundle [default: <FILE>.sigstore.json]
    #[arg(long, env = "COUNTERSIGN_BUNDLE", value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// If the log stays away, write a bundle without its entry; `countersign log submit` completes it later
    #[arg(long, env = "COUNTERSIGN_DEFER", value_parser = BoolishValueParser::new())]
    pub(crate) defer: bool,
    /// The name by which policies know the file [default: its path]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct Timeout {
    /// How long to wait in all for services that are busy or away, such as 90s or 3m
    #[arg(
        long,
        short = 't',
        env = "COUNTERSIGN_TIMEOUT",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = duration
    )]
    pub(crate) timeout: Duration,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(span).map_err(|_| "expected a duration such as 90s or 3m".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SignBlob {
    /// The file; - reads standard input, and then --bundle is needed
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AttestBlob {
    /// The files; one attestation is about all of them, and of several --bundle is needed
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What is attested: a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) predicate: PathBuf,
    /// What kind of claim that is: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex, link… or a URI
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

/// What to verify, and by what.
#[derive(Debug, ClapArgs)]
pub(crate) struct Verification {
    /// Files, directories or patterns; - reads standard input; sha256:HEX stands for a file with that digest
    #[arg(required_unless_present = "checksums", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The bundle, or a collection of them, one a line (.jsonl) [default: <FILE>.sigstore.json, else <FILE>.sigstore]
    #[arg(long, env = "COUNTERSIGN_BUNDLE", value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// A signed list such as SHA256SUMS; its FILEs, or all of them, are checked against it
    #[arg(long, value_name = "FILE")]
    pub(crate) checksums: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) by_policy: policy::ByPolicy,
    #[command(flatten)]
    pub(crate) evidence: Evidence,
}

/// Whom to trust, who must have signed, and how much must speak for it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Evidence {
    #[command(flatten)]
    pub(crate) trust: Trust,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Log entries needed, each in another log [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) log_threshold: Option<usize>,
    /// Timestamps needed, each by another authority [default: 1, with --key 0]
    #[arg(long, value_name = "N")]
    pub(crate) timestamp_threshold: Option<usize>,
    /// Certificate logs needed that recorded the certificate [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) certificate_log_threshold: Option<usize>,
    /// The witnesses that must have cosigned the log's tree (C2SP tlog-policy)
    #[arg(long, env = "COUNTERSIGN_WITNESS_POLICY", value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
    /// cosign's way to say --log-threshold 0
    #[arg(long, hide = true, conflicts_with = "log_threshold")]
    pub(crate) insecure_ignore_tlog: bool,
    /// cosign's way to say --certificate-log-threshold 0
    #[arg(long, hide = true, conflicts_with = "certificate_log_threshold")]
    pub(crate) insecure_ignore_sct: bool,
    /// cosign's way to demand a timestamp; one is always taken
    #[arg(long, hide = true)]
    pub(crate) use_signed_timestamps: bool,
    /// Make no network call at all: trust is what a file names, or as old as its last refresh
    #[arg(long, env = "COUNTERSIGN_OFFLINE", value_parser = BoolishValueParser::new())]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Who must have signed.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Whom {
    /// Who must have signed: the certificate's subject alternative name, to the letter; of several any one
    #[arg(long, env = "COUNTERSIGN_CERTIFICATE_IDENTITY", value_name = "NAME")]
    pub(crate) certificate_identity: Vec<String>,
    /// The same as a regular expression, which must match the whole name
    #[arg(long, env = "COUNTERSIGN_CERTIFICATE_IDENTITY_REGEXP", value_name = "REGEXP")]
    pub(crate) certificate_identity_regexp: Option<String>,
    /// Who must have vouched for the signer: the OIDC issuer, to the letter; one, or one for each name
    #[arg(long, env = "COUNTERSIGN_CERTIFICATE_OIDC_ISSUER", value_name = "URL")]
    pub(crate) certificate_oidc_issuer: Vec<String>,
    /// The same as a regular expression, which must match the whole issuer
    #[arg(long, env = "COUNTERSIGN_CERTIFICATE_OIDC_ISSUER_REGEXP", value_name = "REGEXP")]
    pub(crate) certificate_oidc_issuer_regexp: Option<String>,
    /// The GitHub repository the job ran in, OWNER/NAME
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) certificate_github_workflow_repository: Option<String>,
    /// The Git ref the job ran on
    #[arg(long, value_name = "REF")]
    pub(crate) certificate_github_workflow_ref: Option<String>,
    /// The workflow's name
    #[arg(long, value_name = "NAME")]
    pub(crate) certificate_github_workflow_name: Option<String>,
    /// What triggered the job
    #[arg(long, value_name = "EVENT")]
    pub(crate) certificate_github_workflow_trigger: Option<String>,
    /// The commit the job ran on
    #[arg(long, value_name = "SHA")]
    pub(crate) certificate_github_workflow_sha: Option<String>,
    /// Any claim of the certificate, of GitLab or others; `bundle inspect` shows their names
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) certificate_claim: Vec<String>,
    /// A public key that must have signed, PEM, instead of an identity: a file, or env://VARIABLE
    #[arg(long, env = "COUNTERSIGN_KEY", value_name = "FILE")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyBlob {
    #[command(flatten)]
    pub(crate) verification: Verification,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyBlobAttestation {
    /// What must be attested: slsaprovenance1, spdxjson, cyclonedx, vuln, openvex, link… or a URI
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) verification: Verification,
}

/// Names and order of the flags are the suite's.
#[derive(Debug, Subcommand)]
pub(crate) enum Conformance {
    /// Sign a file into a bundle
    SignBundle {
        /// Use the staging instance
        #[arg(long)]
        staging: bool,
        /// The file is an in-toto statement
        #[arg(long)]
        in_toto: bool,
        /// The identity token
        #[arg(long)]
        identity_token: String,
        /// Where to write the bundle
        #[arg(long)]
        bundle: PathBuf,
        /// Whom to trust [default: the public-good instance]
        #[arg(long)]
        trusted_root: Option<PathBuf>,
        /// Where to sign [default: the public-good instance]
        #[arg(long)]
        signing_config: Option<PathBuf>,
        /// The file
        file: PathBuf,
    },
    /// Verify a bundle
    VerifyBundle {
        /// Use the staging instance
        #[arg(long)]
        staging: bool,
        /// The bundle
        #[arg(long)]
        bundle: PathBuf,
        /// Who must have signed
        #[arg(long, requires = "certificate_oidc_issuer", conflicts_with = "key")]
        certificate_identity: Option<String>,
        /// Who must have vouched
        #[arg(long, requires = "certificate_identity", conflicts_with = "key")]
        certificate_oidc_issuer: Option<String>,
        /// The key that must have signed
        #[arg(long, required_unless_present = "certificate_identity")]
        key: Option<String>,
        /// Whom to trust [default: the public-good instance]
        #[arg(long)]
        trusted_root: Option<PathBuf>,
        /// The file, or sha256:HEX
        file: PathBuf,
    },
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Output {
    /// How to print the result
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
    /// Print each check with its verdict
    #[arg(long, env = "COUNTERSIGN_EXPLAIN", value_parser = BoolishValueParser::new())]
    pub(crate) explain: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Show what a bundle says; nothing of it is verified
    Inspect {
        /// The bundle
        file: PathBuf,
        /// How to print it
        #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
        output: Format,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Health {
    /// The instance
    #[arg(long, env = "COUNTERSIGN_INSTANCE", default_value = "http://127.0.0.1:8420")]
    pub(crate) instance: Url,
}
