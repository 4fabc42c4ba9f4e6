//! `countersign policy test`.

use crate::args::Format;
use crate::args::policy::Test as Args;
use crate::failure::{Failure, NO, YES};
use crate::trust::read_bounded;
use crate::{output, policy_file};
use countersign_policy::yaml::{MAX_TEXT, Mistakes};
use countersign_policy::{Cases, Miss, Policy};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The results of one file of cases.
struct Tested {
    file: String,
    cases: Vec<(String, Result<(), Miss>)>,
    /// Rules that no case would miss.
    unneeded: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut tested = Vec::new();
    for (policy, cases) in pairs(&args.dir)? {
        tested.push(test(&policy_file::read(&policy)?, &cases)?);
    }
    if tested.is_empty() {
        return Err(Failure::unclear(format!("{} has no cases", args.dir.display()))
            .hint("the cases of X.yaml stand beside it in X.test.yaml"));
    }
    let failed = tested
        .iter()
        .flat_map(|tested| &tested.cases)
        .filter(|(_, result)| result.is_err())
        .count();
    let total: usize = tested.iter().map(|tested| tested.cases.len()).sum();
    let unneeded: usize = tested.iter().map(|tested| tested.unneeded.len()).sum();
    let text = match args.output {
        Format::Json => {
            let files: Vec<Value> = tested.iter().map(Tested::json).collect();
            let report = json!({ "schema": "countersign.policy-test/1", "passed": total - failed,
                "failed": failed, "files": files });
            format!("{report}\n")
        }
        Format::Text => {
            let mut text: String = tested.iter().map(Tested::text).collect();
            let unneeded = match failed {
                0 => format!("{unneeded} rules that no case would miss"),
                _ => "rules that no case would miss are not counted while cases fail".to_owned(),
            };
            let _ = writeln!(text, "{} passed, {failed} failed, {unneeded}", total - failed);
            text
        }
    };
    output::print(&output::visible(&text))?;
    let fine = failed == 0 && !(args.strict && unneeded > 0);
    Ok(ExitCode::from(if fine { YES } else { NO }))
}

/// Each policy with its cases.
fn pairs(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    const SUFFIXES: [&str; 2] = [".test.yaml", ".test.yml"];
    let of = |cases: &Path| {
        let name = cases.file_name()?.to_str()?;
        let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        let names = [format!("{stem}.yaml"), format!("{stem}.yml")];
        let policies = names.map(|name| cases.with_file_name(name));
        policies.into_iter().find(|policy| policy.exists())
    };
    if dir.is_file() {
        let policy = of(dir).ok_or_else(|| {
            Failure::unclear(format!("there is no policy beside {}", dir.display()))
                .hint("the cases of X.yaml stand beside it in X.test.yaml")
        })?;
        return Ok(vec![(policy, dir.to_owned())]);
    }
    let failed = |error| Failure::file("read", dir, &error);
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let cases = entry.map_err(failed)?.path();
        if let Some(policy) = of(&cases) {
            pairs.push((policy, cases));
        }
    }
    pairs.sort();
    Ok(pairs)
}

fn test(policy: &Policy, path: &Path) -> Result<Tested, Failure> {
    let file = path.display().to_string();
    let text = String::from_utf8(read_bounded(path, MAX_TEXT)?)
        .map_err(|_| Failure::unclear(format!("{file}: expected YAML in UTF-8")))?;
    let cases = Cases::parse(&text, policy, Timestamp::now()).map_err(|Mistakes(mistakes)| {
        let lines: Vec<_> = mistakes.iter().map(|mistake| format!("{file}:{mistake}")).collect();
        Failure::unclear(lines.join("\n"))
    })?;
    let results = cases.cases().iter().map(|case| (case.name.clone(), case.check(policy)));
    Ok(Tested { file, cases: results.collect(), unneeded: cases.unneeded(policy) })
}

impl Tested {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.file);
        for (name, result) in &self.cases {
            match result {
                Ok(()) => {
                    let _ = writeln!(text, "  ok      {name}");
                }
                Err(why) => {
                    let _ = writeln!(text, "  FAILED  {name}");
                    for line in why.to_string().lines() {
                        let _ = writeln!(text, "          {line}");
                    }
                }
            }
        }
        for rule in &self.unneeded {
            let _ = writeln!(text, "  no case would miss {rule}");
        }
        text
    }

    fn json(&self) -> Value {
        let case = |(name, result): &(String, Result<(), Miss>)| match result {
            Ok(()) => json!({ "name": name, "passed": true, "why": null }),
            Err(Miss { expected, got, why }) => json!({ "name": name, "passed": false,
                "expected": expected, "got": got, "why": why }),
        };
        json!({ "file": self.file, "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
            "noCaseWouldMiss": self.unneeded })
    }
}
