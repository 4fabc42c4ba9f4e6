//! What an instance takes on: from whom, how often, how much at a time.

use super::{Expected, Section};
use crate::args::duration;
use countersign_front::Limits;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// How often certificates are given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Issuance {
    /// Each token is good for one.
    pub(crate) one_time_tokens: bool,
    /// So many a minute for each identity.
    pub(crate) per_minute: Option<NonZeroU32>,
}

/// Whose entries the signature logs take. `None`: anybody's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Takes {
    /// Certificates of these authorities.
    pub(crate) certificates: Option<Vec<Authorities>>,
    /// Bare keys, files.
    pub(crate) keys: Option<Vec<PathBuf>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Authorities {
    /// The instance's.
    Own,
    /// Those of a trusted root, a file.
    Of(PathBuf),
}

/// `[issuance]`
pub(super) fn issuance(root: &mut Section<'_, '_>) -> Issuance {
    let Some(mut table) = root.table("issuance") else { return Issuance::default() };
    let issuance = Issuance {
        one_time_tokens: table.flag("one-time-tokens").unwrap_or_default(),
        per_minute: table.number("per-identity-a-minute"),
    };
    table.finish();
    issuance
}

/// `[log]`
pub(super) fn takes(
    root: &mut Section<'_, '_>,
    file: impl Fn(&str) -> Result<PathBuf, Expected> + Copy,
) -> Takes {
    let Some(mut table) = root.table("log") else { return Takes::default() };
    let authorities = |text: &str| match text {
        "own" => Ok(Authorities::Own),
        _ => file(text).map(Authorities::Of).map_err(|_| {
            Expected::new("\"own\", or the name of a file that is there, a trusted root")
        }),
    };
    let takes = Takes {
        certificates: table.texts("certificates", authorities),
        keys: table.texts("keys", file),
    };
    table.finish();
    takes
}

/// `[limits]`
pub(super) fn limits(root: &mut Section<'_, '_>) -> Limits {
    let usual = Limits::default();
    let Some(mut table) = root.table("limits") else { return usual };
    let count = |number: Option<NonZeroU32>, usual: usize| {
        number.map_or(usual, |number| usize::try_from(number.get()).expect("at most a million"))
    };
    let time = |text: &str| match duration(text) {
        Ok(time) if !time.is_zero() && time <= Duration::from_secs(3600) => Ok(time),
        _ => Err(Expected::new("a duration of at most an hour, such as \"30s\"")),
    };
    let limits = Limits {
        requests: count(table.number("requests"), usual.requests),
        rate: table.number("rate").unwrap_or(usual.rate),
        burst: table.number("burst").unwrap_or(usual.burst),
        connections: count(table.number("connections"), usual.connections),
        connections_per_peer: count(
            table.number("connections-per-peer"),
            usual.connections_per_peer,
        ),
        head: table.optional("head-timeout", time).unwrap_or(usual.head),
        request: table.optional("request-timeout", time).unwrap_or(usual.request),
        drain: table.optional("drain-timeout", time).unwrap_or(usual.drain),
    };
    table.finish();
    limits
}
