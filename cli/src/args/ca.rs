//! `countersign ca explain-token`.

use super::Format;
use clap::Args as ClapArgs;
use std::path::PathBuf;
use url::Url;

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainToken {
    /// The identity token, a file that holds it, or - for standard input
    #[arg(value_name = "TOKEN|FILE|-")]
    pub(crate) token: String,
    /// The instance to ask: it checks the token, and asks its policy
    #[arg(long, env = "COUNTERSIGN_INSTANCE", required_unless_present = "fulcio_config")]
    pub(crate) instance: Option<Url>,
    /// Ask nobody, and read the claims by this Fulcio configuration; nothing of the token is verified
    #[arg(long, value_name = "FILE")]
    pub(crate) fulcio_config: Option<PathBuf>,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}
