//! `countersign ca explain-token`: whom a token names, what its certificate would say, and what policy says, without
//! asking for the certificate.

use crate::args::Format;
use crate::args::ca::ExplainToken;
use crate::failure::Failure;
use crate::instance::production;
use crate::output;
use crate::runtime::block_on;
use countersign_ca::identity::explained;
use countersign_client::http::{self, Http};
use countersign_client::token::{IdentityToken, Source};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;
use url::Url;

pub(super) fn run(args: &ExplainToken) -> Result<ExitCode, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let source = Source::find(Some(&args.token), |_| None).map_err(|error| unclear(&error))?;
    let token = block_on(source.fetch())?.map_err(|error| unclear(&error))?;
    let told = match (&args.fulcio_config, &args.instance) {
        (Some(path), _) => explained::unverified(token.secret(), &production::issuers(path)?)
            .map_err(|error| Failure::no(error.to_string()))?,
        (None, Some(instance)) => ask(instance, &token)?,
        (None, None) => return Err(Failure::unclear("expected --instance or --fulcio-config")),
    };
    match args.output {
        Format::Json => output::print(&format!("{told}\n"))?,
        Format::Text => output::print(&text(&told))?,
    }
    let refused = told["policy"]["verdict"] == "refused";
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn ask(instance: &Url, token: &IdentityToken) -> Result<Value, Failure> {
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let url = instance.join("/api/v2/explainToken").map_err(|error| unclear(&error))?;
    let http = Http::new([&url]).map_err(|error| unclear(&error))?;
    let reply = block_on(http.post(&url, "application/json", b"{}", Some(token.secret())))?;
    let reply = reply.map_err(|error| match error {
        // What the authority says of the token is the answer that was asked for.
        http::Error::Status { status: 400 | 403, message, .. } => Failure::no(message),
        error => unclear(&error),
    })?;
    serde_json::from_slice(&reply)
        .map_err(|_| Failure::unclear(format!("{url} answered something else than JSON")))
}

fn text(told: &Value) -> String {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![(
        "identity".to_owned(),
        format!("{} ({})", string(&told["identity"]), string(&told["kind"])),
    )];
    let claims = told["claims"].as_object().into_iter().flatten();
    lines.extend(claims.map(|(name, value)| (name.clone(), string(value))));
    let policy = &told["policy"];
    let verdict = match policy["verdict"].as_str() {
        Some("refused") => format!(
            "refused by rule {}: expected {}, found {}",
            policy["rule"],
            string(&policy["expected"]),
            string(&policy["found"]),
        ),
        Some(verdict) => verdict.to_owned(),
        None => "not asked; nothing of the token is verified".to_owned(),
    };
    lines.push(("policy".to_owned(), verdict));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name:width$}  {value}").expect("a string takes it");
    }
    text
}
