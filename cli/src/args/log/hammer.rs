//! `countersign log hammer`.

use crate::args::{Format, Timeout, Trust, duration};
use clap::Args as ClapArgs;
use std::time::Duration;

#[derive(Debug, ClapArgs)]
pub(crate) struct Hammer {
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Writers at a time; each sends its next entry when it has the answer to the last
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) writers: u16,
    /// Readers at a time; each proves one entry after the other from tiles
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..=4096))]
    pub(crate) readers: u16,
    /// Entries a second over all writers, whether the log keeps up or not [default: as many as it takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// Which part of the submissions repeats an entry that was acknowledged before
    #[arg(long, default_value = "0.1", value_name = "PART", value_parser = part)]
    pub(crate) repeats: f64,
    /// Which part of the submissions must be refused
    #[arg(long, default_value = "0.01", value_name = "PART", value_parser = part)]
    pub(crate) invalid: f64,
    /// How long to write, such as 10s or 2h; Ctrl-C ends it early
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Write entries with certificates that the instance issues for this token, a file that holds it,
    /// or - for standard input; without it entries name bare keys
    #[arg(long, value_name = "TOKEN|FILE|-")]
    pub(crate) identity_token: Option<String>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

/// A part of a whole, from 0 to 1.
fn part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "expected a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("expected 0 to 1".to_owned()) }
}
