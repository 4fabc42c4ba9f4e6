//! `countersign policy`, and the flags of whoever decides by a policy.

use super::{Format, Keeping, Signing, Trust, Verification};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use jiff::{SpanRelativeTo, Timestamp};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Read a policy, tell its mistakes and what its author may not mean, and who can sign what by it
    Check(Check),
    /// Run the cases of a policy, and tell the rules that no case would miss
    Test(Test),
    /// Decide about files as verify-blob --policy does, and tell all of why; about images verify --policy --explain does
    Explain(Box<Explain>),
    /// Write somebody else's policy as ours, and tell what changes its meaning
    Import(Import),
    /// Sign the next version of a policy, as one of its owners
    Publish(Publish),
    /// Put the next version of a policy in force, if its owners signed it and it follows the one before
    Accept(Accept),
    /// Decide about recorded facts by two policies, and tell what changes
    Replay(Replay),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The policy
    pub(crate) file: PathBuf,
    /// Who can sign this image, file or package, or attest something about it?
    #[arg(long, value_name = "NAME")]
    pub(crate) who_can_sign: Option<String>,
    /// What can this role sign?
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// What may not be meant is a failure, too
    #[arg(long)]
    pub(crate) strict: bool,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Test {
    /// Policies and their cases: in a directory X.yaml is tested by X.test.yaml
    pub(crate) dir: PathBuf,
    /// A rule that no case would miss is a failure
    #[arg(long)]
    pub(crate) strict: bool,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) verification: Verification,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    /// What it is
    pub(crate) format: Foreign,
    /// The file
    pub(crate) file: PathBuf,
    /// The new policy's name
    #[arg(long, default_value = "imported")]
    pub(crate) name: String,
    /// Where to write the new policy [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Publish {
    /// The policy
    pub(crate) file: PathBuf,
    /// Where to write the bundle; each owner gives another [default: <FILE>.sigstore.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

impl Publish {
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping { bundle: self.bundle.clone(), defer: false, name: None }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Accept {
    /// The next version; all bundles beside it are looked at
    pub(crate) file: PathBuf,
    /// The policy in force, which it replaces: what "policy" in a configuration and --policy name
    #[arg(long, value_name = "FILE")]
    pub(crate) into: PathBuf,
    /// Its digest, sha256:…: needed for the first version, which follows none
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<String>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// Policies of others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Foreign {
    /// ClusterImagePolicy of policy.sigstore.dev
    Cip,
    /// Notation's trustpolicy.json
    Notation,
    /// policy.json of containers/image, as podman and CRI-O have it
    #[value(name = "policy.json")]
    PolicyJson,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Replay {
    /// The policy that is to be
    pub(crate) new: PathBuf,
    /// The policy that is
    #[arg(long, value_name = "FILE")]
    pub(crate) against: PathBuf,
    /// Recorded facts: a file or a directory of them, such as --policy FILE --record-facts FILE writes
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) facts: Vec<PathBuf>,
    /// The entries of an instance's log, as its gate would decide about them: log, or log:30d
    #[arg(long, value_name = "log[:AGE]", value_parser = over, conflicts_with = "facts")]
    pub(crate) over: Option<Over>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

/// From when on: `log`, or `log:30d`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over(pub(crate) Option<Timestamp>);

fn over(text: &str) -> Result<Over, String> {
    let expected =
        || "expected log, or log:30d for what was certified in the last 30 days".to_owned();
    let rest = text.strip_prefix("log").ok_or_else(expected)?;
    if rest.is_empty() {
        return Ok(Over(None));
    }
    let span: jiff::Span =
        rest.strip_prefix(':').ok_or_else(expected)?.parse().map_err(|_| expected())?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    Ok(Over(Some(Timestamp::now().checked_sub(span).map_err(|_| expected())?)))
}

/// To decide by a policy.
#[derive(Debug, Default, ClapArgs)]
#[group(id = "by-policy")]
pub(crate) struct ByPolicy {
    /// Decide by this policy, over all bundles that there are; further ones are those that the first includes
    #[arg(long, env = "COUNTERSIGN_POLICY", value_name = "FILE")]
    pub(crate) policy: Vec<PathBuf>,
    /// Where the artifact is to be used: a context of the policy [default: demands of all contexts apply]
    #[arg(long = "in", value_name = "CONTEXT", requires = "policy")]
    pub(crate) context: Option<String>,
    /// The name by which the policy knows the artifact; nothing proves it [default: path or image as given; of
    /// --local-image the path, never what the layout calls its image]
    #[arg(long, value_name = "NAME", requires = "policy")]
    pub(crate) name: Option<String>,
    /// Append the facts of each decision, one JSON object a line, for `countersign policy replay`
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) record_facts: Option<PathBuf>,
}
