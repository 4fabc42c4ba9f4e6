//! `countersign policy check`.

use crate::args::Format;
use crate::args::policy::Check as Args;
use crate::failure::Failure;
use crate::{output, policy_file};
use countersign_policy::{Artifact, KINDS, Policy, Reach};
use jiff::Timestamp;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let policy = policy_file::read(&args.file)?;
    let lints = policy.lints(Timestamp::now());
    let reach = match (&args.who_can_sign, &args.role) {
        (Some(name), _) => Some((name, policy.who_can_sign(&Artifact::named(name)))),
        (None, Some(role)) => {
            let known: Vec<_> = policy.roles.iter().map(|role| role.name.as_str()).collect();
            let unknown = || {
                Failure::unclear(format!("the policy has no role {role:?}"))
                    .hint(format!("its roles are {}", known.join(", ")))
            };
            Some((role, policy.what_can(role).ok_or_else(unknown)?))
        }
        (None, None) => None,
    };
    let text = match args.output {
        Format::Json => {
            let lint = |lint: &countersign_policy::yaml::Mistake| {
                json!({ "line": lint.place.line, "column": lint.place.column,
                    "message": lint.message, "suggestion": lint.suggestion })
            };
            let answer = reach.as_ref().map(|(_, reach)| reach);
            format!(
                "{}\n",
                json!({ "schema": "countersign.policy/1", "policy": policy.name,
                    "serial": policy.serial, "digest": policy.digest,
                    "lints": lints.iter().map(lint).collect::<Vec<_>>(), "reach": answer })
            )
        }
        Format::Text => {
            let mut text = summary(&policy);
            for lint in &lints {
                let _ = writeln!(text, "{}:{lint}", args.file.display());
            }
            if let Some((name, reach)) = &reach {
                text.push_str(&told(name, reach));
            }
            text
        }
    };
    output::print(&output::visible(&text))?;
    if args.strict && !lints.is_empty() {
        return Err(Failure::no(format!("{} things may not be meant", lints.len())));
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(policy: &Policy) -> String {
    let mut text =
        format!("{} serial {}\n  digest {}\n", policy.name, policy.serial, policy.digest);
    let count = |number: usize, what: &str| format!("{number} {what}");
    let counts = [
        count(policy.roles.len(), "roles"),
        count(policy.may.len(), "grants"),
        count(policy.never.len(), "prohibitions"),
        count(policy.must.len(), "demands"),
    ];
    let _ = writeln!(text, "  {}", counts.join(", "));
    for name in policy.kinds() {
        if let Some((_, uris)) = KINDS.iter().find(|(short, _)| *short == name) {
            let uris: Vec<_> =
                uris.iter().map(|uri| uri.replace("Document/", "Document/…")).collect();
            let _ = writeln!(text, "  {name} stands for {}", uris.join(", "));
        }
    }
    text
}

fn told(name: &str, reach: &Reach) -> String {
    let mut text = format!("{name}\n");
    if !reach.classes.is_empty() {
        let _ = writeln!(text, "  is of class {}", reach.classes.join(", "));
    }
    if reach.grants.is_empty() {
        text.push_str("  no grant: nobody's signature counts\n");
    }
    for grant in &reach.grants {
        let _ = writeln!(text, "  {} may {}, to {}", grant.role, grant.may.join(", "), grant.to);
        for line in &grant.who {
            let _ = writeln!(text, "      {line}");
        }
        for line in &grant.when {
            let _ = writeln!(text, "      when {line}");
        }
    }
    for never in &reach.prohibitions {
        let _ = writeln!(text, "  never {never}");
    }
    for must in &reach.demands {
        let _ = writeln!(text, "  must {must}");
    }
    for exception in &reach.exceptions {
        let _ = writeln!(text, "  EXCEPTION from {exception}");
    }
    text
}
