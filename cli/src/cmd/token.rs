//! `countersign token`: an identity token of a development instance.

use crate::args::Token;
use crate::failure::Failure;
use crate::idp::{Job, MINT_HEADER, Whom};
use crate::output;
use crate::runtime::block_on;
use countersign_client::http::Http;
use serde::Deserialize;
use std::process::ExitCode;

pub(crate) fn run(args: &Token) -> Result<ExitCode, Failure> {
    let whom = match (&args.email, &args.github) {
        (Some(email), _) => Whom::Email(email.clone()),
        (None, Some(repository)) => {
            if repository.split('/').filter(|part| !part.is_empty()).count() != 2 {
                return Err(Failure::unclear("expected --github ORG/REPO"));
            }
            Whom::Github(Job {
                repository: repository.clone(),
                git_ref: args.git_ref.clone(),
                workflow: args.workflow.clone(),
                event: args.event.clone(),
            })
        }
        (None, None) => return Err(Failure::unclear("expected --email or --github")),
    };
    #[derive(Deserialize)]
    struct Answer {
        token: String,
    }
    let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
    let url = args.instance.join("/dev/token").map_err(|error| unclear(&error))?;
    let http = Http::new([&url]).map_err(|error| unclear(&error))?;
    let request = serde_json::to_vec(&whom).expect("texts only");
    let reply = block_on(http.post_with_header(&url, (MINT_HEADER, "1"), &request))?;
    let reply = reply.map_err(|error| {
        unclear(&error)
            .hint("tokens are minted by `countersign dev` only; is it running, and on this port?")
    })?;
    let answer: Answer = serde_json::from_slice(&reply)
        .map_err(|_| Failure::unclear(format!("{url} answered something else than a token")))?;
    output::print(&format!("{}\n", answer.token))?;
    Ok(ExitCode::SUCCESS)
}
