//! `countersign audit search`.

use super::{entry, read, shards};
use crate::args::Format;
use crate::args::audit::{Outcome, Search};
use crate::failure::Failure;
use crate::instance::LogName;
use crate::output;
use countersign_ca::audit::{Entry, Event, Who};
use std::process::ExitCode;

pub(super) fn run(args: &Search) -> Result<ExitCode, Failure> {
    let mut found = String::new();
    for (number, shard) in (1..).zip(shards(&args.dir, LogName::Audit)?) {
        let mut unread = None;
        read(&args.dir, &shard, &mut |index, record| {
            match entry(record) {
            None => unread = unread.or(Some(index)),
            Some((entry, _)) if !matches(args, &entry) => {}
            Some((entry, json)) => found.push_str(&match args.output {
                Format::Json => format!(
                    "{{\"schema\":\"countersign.audit-entry/1\",\"shard\":{number},\"index\":{index},\"entry\":{json}}}\n"
                ),
                Format::Text => {
                    let rest = match entry.unrecorded {
                        0 => String::new(),
                        rest => format!(" ({rest} more before it are not on record)"),
                    };
                    format!("{number}/{index} {} {}{rest}\n", entry.time, sentence(&entry.event))
                }
            }),
        }
        })?;
        if let Some(index) = unread {
            let message =
                format!("{}: entry {index} is none that this program reads", shard.folder);
            return Err(Failure::unclear(message).hint("a newer version of it may"));
        }
    }
    // Now that all is known to be in the signed tree.
    output::print(&found)?;
    if found.is_empty() {
        eprintln!("nothing on record answers to that");
    }
    Ok(ExitCode::SUCCESS)
}

fn matches(args: &Search, entry: &Entry) -> bool {
    let mut facts = Facts::default();
    let outcome = match &entry.event {
        Event::Serial { serial, key_sha256, who } => {
            facts = Facts { who: Some(who), serial: Some(serial), ..facts };
            facts.keys.extend(key_sha256.as_deref());
            Outcome::Begun
        }
        Event::Issued { serial, who, .. } => {
            facts = Facts { who: Some(who), serial: Some(serial), ..facts };
            Outcome::Issued
        }
        Event::Refused { reason, rule, serial, who, .. } => {
            facts = Facts { who: who.as_ref(), serial: serial.as_deref(), ..facts };
            facts.rules.push(reason);
            facts.rules.extend(rule.as_deref());
            Outcome::Refused
        }
        Event::WouldRefuse { rule, who, .. } => {
            facts = Facts { who: who.as_ref(), ..facts };
            facts.rules.extend([&rule[..], rule.split(": ").next().unwrap_or_default()]);
            Outcome::WouldRefuse
        }
        Event::Administered { about, .. } => {
            facts.keys.extend(about.iter().flat_map(|text| text.split(' ')));
            Outcome::Act
        }
    };
    let exact = |wanted: &Option<String>, found: &[&str]| {
        wanted.as_ref().is_none_or(|wanted| found.contains(&&wanted[..]))
    };
    let hex = |wanted: &Option<String>, found: &[&str]| {
        let same = |wanted: &String| found.iter().any(|found| found.eq_ignore_ascii_case(wanted));
        wanted.as_ref().is_none_or(same)
    };
    let name = |of: fn(&Who) -> &String| facts.who.map(|who| &of(who)[..]);
    exact(&args.identity, name(|who| &who.identity).as_slice())
        && exact(&args.issuer, name(|who| &who.issuer).as_slice())
        && hex(&args.serial, facts.serial.as_slice())
        && hex(&args.key, &facts.keys)
        && args
            .rule
            .as_ref()
            .is_none_or(|wanted| facts.rules.iter().any(|rule| is_rule(wanted, rule)))
        && args.outcome.is_none_or(|wanted| wanted == outcome)
        && args.since.is_none_or(|since| since <= entry.time)
        && args.until.is_none_or(|until| entry.time < until)
}

/// Whether `rule` is the one that is wanted: all of it, or its name or its code alone. It reads
/// `may: not-granted` or `never "NAME": denied-by:NAME`.
fn is_rule(wanted: &str, rule: &str) -> bool {
    let part = |(at, _): (usize, &str)| {
        let (name, code) = (&rule[..at], &rule[at + 2..]);
        // `claim-mismatch` is any of `claim-mismatch:ref` and so on.
        let kind = code.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(':'));
        kind || [name, code].contains(&wanted) || name == format!("never {wanted:?}")
    };
    rule == wanted || rule.match_indices(": ").any(part)
}

/// What can be searched for in an entry, beside its time and outcome.
#[derive(Default)]
struct Facts<'a> {
    who: Option<&'a Who>,
    serial: Option<&'a str>,
    keys: Vec<&'a str>,
    rules: Vec<&'a str>,
}

fn sentence(event: &Event) -> String {
    let by = |who: &Who| format!("{} by {}", who.identity, who.issuer);
    match event {
        Event::Serial { serial, key_sha256, who } => {
            let key = key_sha256.as_deref().unwrap_or("not on record");
            format!("begun {serial} for {}, key {key}", by(who))
        }
        Event::Issued { serial, who, log_index, .. } => {
            let place = log_index.map_or("unknown".to_owned(), |index| index.to_string());
            format!("issued {serial} to {}, certificate log {place}", by(who))
        }
        Event::Refused { reason, message, serial, who, .. } => {
            let whom = who.as_ref().map_or_else(|| "nobody known".to_owned(), by);
            let serial = serial.as_ref().map_or_else(String::new, |serial| format!(" {serial}"));
            format!("refused{serial} to {whom}: {reason}: {message}")
        }
        Event::WouldRefuse { message, who, .. } => {
            let whom = who.as_ref().map_or_else(|| "nobody known".to_owned(), by);
            format!("let through, for the policy runs dry, {whom}: {message}")
        }
        Event::Administered { act, about, failed } => {
            let failed = failed.as_ref().map_or_else(String::new, |why| format!(", failed: {why}"));
            format!("{act}: {}{failed}", about.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_rule;

    #[test]
    fn a_rule_is_found_by_all_of_it_its_name_or_its_code() {
        let never = "never \"no: pull requests\": denied-by:no: pull requests";
        for (wanted, rule, expected) in [
            ("may: not-granted", "may: not-granted", true),
            ("not-granted", "may: not-granted", true),
            ("may", "may: not-granted", true),
            ("claim-mismatch:ref", "may: claim-mismatch:ref", true),
            ("claim-mismatch", "may: claim-mismatch:ref", true),
            ("no: pull requests", never, true),
            ("denied-by", never, true),
            ("denied-by:no: pull requests", never, true),
            ("POLICY_REFUSED", "POLICY_REFUSED", true),
            ("granted", "may: not-granted", false),
            ("claim", "may: claim-mismatch:ref", false),
            ("", "may: not-granted", false),
        ] {
            assert_eq!(is_rule(wanted, rule), expected, "{wanted} {rule}");
        }
    }
}
