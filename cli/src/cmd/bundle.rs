//! `countersign bundle inspect`: what a bundle says, none of it verified.

use crate::args::{Bundle as Args, Format};
use crate::failure::Failure;
use crate::output;
use crate::report::Signer;
use crate::trust::read_bounded;
use countersign_verify::Bundle;
use countersign_verify::bundle::{Content, Material};
use countersign_verify::certificate::Certificate;
use countersign_verify::encoding::{base64, hex};
use countersign_verify::limits::MAX_BUNDLE;
use countersign_verify::statement::Statement;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Args::Inspect { file, output } = args;
    let json = read_bounded(file, MAX_BUNDLE)?;
    let failed =
        |error: &dyn std::fmt::Display| Failure::no(format!("{}: {error}", file.display()));
    let bundle = Bundle::parse(&json).map_err(|error| failed(&error))?;
    let summary = summary(file, &bundle);
    let text = match output {
        Format::Json => format!("{summary}\n"),
        Format::Text => {
            let mut text = format!("{} (not verified)\n", file.display());
            outline(&summary, 1, &mut text);
            text
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(file: &Path, bundle: &Bundle) -> Value {
    let signer = match bundle.material() {
        Material::PublicKey { hint } => json!({ "keyHint": hint }),
        Material::Certificate(_) | Material::Chain(_) => {
            certificate(bundle.certificate().unwrap_or_default())
        }
    };
    let content = match bundle.content() {
        Content::Message(message) => {
            let digest = format!("{}:{}", message.hash.short_name(), hex(&message.digest));
            // Cosign's own bundle of what was not logged names none.
            json!({ "kind": "message signature",
                "digest": (!message.digest.is_empty()).then_some(digest) })
        }
        Content::Dsse(envelope) => {
            let statement = Statement::parse(&envelope.payload).ok();
            json!({ "kind": "DSSE envelope", "payloadType": envelope.payload_type,
                "predicateType": statement.as_ref().map(Statement::predicate_type),
                "subjects": statement.as_ref().map(|statement| statement.subjects().len()) })
        }
    };
    let entries: Vec<_> = bundle
        .entries()
        .iter()
        .map(|entry| {
            let proof = entry.proof.as_ref();
            json!({ "kind": format!("{} {}", entry.kind, entry.version), "index": entry.log_index,
                "logId": base64(&entry.log_id), "promise": entry.promise.is_some(),
                "checkpoint": proof.map(|proof| proof.checkpoint.lines().next().unwrap_or_default()),
                "treeSize": proof.map(|proof| proof.tree_size) })
        })
        .collect();
    json!({ "schema": "countersign.bundle/1", "verified": false, "file": file.display().to_string(),
        "version": bundle.version().to_string(), "signer": signer, "content": content,
        "entries": entries, "timestamps": bundle.timestamps().len() })
}

fn certificate(der: &[u8]) -> Value {
    let certificate = match Certificate::parse(der) {
        Ok(certificate) => certificate,
        Err(error) => return json!({ "unreadable": error.to_string() }),
    };
    let mut value = json!({ "serial": hex(certificate.serial()),
        "notBefore": certificate.not_before().to_string(),
        "notAfter": certificate.not_after().to_string() });
    match certificate.identity() {
        Ok(identity) => {
            let signer = serde_json::to_value(Signer::new(&identity)).unwrap_or_default();
            for (name, member) in signer.as_object().into_iter().flatten() {
                value[name] = member.clone();
            }
        }
        Err(error) => value["unreadable"] = error.to_string().into(),
    }
    // What a policy of the authority found, and what the certificate was asked for.
    match certificate.assertion() {
        Ok(None) => {}
        Ok(Some(assertion)) => {
            value["claims"]["asserted"] = serde_json::to_value(assertion).unwrap_or_default();
        }
        Err(error) => value["claims"]["asserted"] = json!({ "unreadable": error.to_string() }),
    }
    value
}

/// JSON as indented lines; control characters of hostile bundles do not reach the terminal.
fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if depth == 1 && matches!(name.as_str(), "schema" | "verified" | "file") {
                    continue;
                }
                branch(&format!("{indent}{name}"), member, depth, text);
            }
        }
        Value::Array(list) => {
            for (place, member) in list.iter().enumerate() {
                branch(&format!("{indent}{place}"), member, depth, text);
            }
        }
        _ => {}
    }
}

fn branch(label: &str, value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Array(list) if list.is_empty() => text.push_str(&format!("{label}: none\n")),
        Value::Object(_) | Value::Array(_) => {
            text.push_str(&format!("{label}\n"));
            outline(value, depth + 1, text);
        }
        Value::String(line) => {
            let shown: String = line.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("{label}: {shown}\n"));
        }
        Value::Null => {}
        other => text.push_str(&format!("{label}: {other}\n")),
    }
}
