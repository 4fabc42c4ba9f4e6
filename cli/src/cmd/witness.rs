//! `countersign witness`: cosigns the checkpoints of other logs, and of each log one history only.
//!
//! ```text
//! witness.pem     its key, PKCS#8, readable by the owner only
//! witness.vkey    the same for those who verify: name and public key
//! witness.db      what it cosigned last of each log
//! instance.lock   held by the process that runs it
//! ```

use super::{dev, serve};
use crate::args::witness::Witness as Args;
use crate::failure::Failure;
use crate::instance::{Directory, keys};
use crate::runtime::on_all_cores;
use crate::trust::read_bounded;
use crate::{logging, output};
use axum::http::StatusCode;
use axum::routing::get;
use axum_server::Handle;
use countersign_log::cosigner::Cosigner;
use countersign_verify::limits::MAX_WITNESS_LOGS;
use countersign_verify::note::VerifierKey;
use countersign_verify::witness::Log;
use jiff::Timestamp;
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

/// Longest time for a request, head and body each: a log gives up after ten seconds, too.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long requests under way may go on when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    logging::init(args.log_format, "warn");
    on_all_cores(serve(args))?
}

async fn serve(args: Args) -> Result<ExitCode, Failure> {
    let logs = logs(&args)?;
    let directory = Directory::open(&args.dir)?;
    let known = match fs::read_to_string(directory.file("witness.vkey")) {
        Ok(text) => Some(text.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::file("read", &directory.file("witness.vkey"), &error)),
    };
    let name = name(known.as_deref(), args.name)?;
    let key = directory.secret("witness.pem", || keys::ed25519_key(None))?;
    let clock: countersign_log::Clock = Arc::new(Timestamp::now);
    let (known_logs, path) = (logs.len(), directory.file("witness.db"));
    let cosigner = Cosigner::open(&name, &keys::pkcs8(&key)?, logs, &path, clock).await;
    let cosigner = cosigner.map_err(|error| {
        Failure::unclear(format!("the witness in {}: {error}", args.dir.display()))
    })?;
    let vkey = cosigner.key().to_string();
    match known {
        Some(known) if known != vkey => {
            let message = format!(
                "the key of the witness in {} is not the one it began with: expected {known}, found {vkey}",
                args.dir.display()
            );
            return Err(
                Failure::unclear(message).hint("put witness.pem back, or start with another --dir")
            );
        }
        Some(_) => {}
        None => directory.write("witness.vkey", format!("{vkey}\n").as_bytes())?,
    }
    let (listener, url) = dev::listen(args.listen, None, None).await?;
    let mut terminate = serve::handler(SignalKind::terminate())?;
    let mut interrupt = serve::handler(SignalKind::interrupt())?;
    let cosigner = Arc::new(cosigner);
    let routes = countersign_log::http::cosigner(Arc::clone(&cosigner))
        .route("/healthz", get(async || "SERVING\n"))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT));
    let handle = Handle::<SocketAddr>::new();
    let mut server = axum_server::Server::from_listener(listener)
        .handle(handle.clone())
        .first_request_timeout(TIMEOUT);
    server.http_builder().http1().header_read_timeout(TIMEOUT);
    let task = tokio::spawn(server.serve(routes.into_make_service()));
    let url = url.as_str().trim_end_matches('/');
    output::print(&format!(
        "Serving {url} as witness of {known_logs} logs. Stop with Ctrl-C; the same directory continues the same key and history.\n\nIn a witness policy:\n  witness {name} {vkey} {url}\n"
    ))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    handle.graceful_shutdown(Some(DRAIN));
    let finished = task.await;
    cosigner.close().await;
    match finished {
        Ok(Err(error)) => Err(Failure::unclear(format!("the server failed: {error}"))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The name it began with, which the flag must not contradict; the first time the flag's.
fn name(known: Option<&str>, given: Option<String>) -> Result<String, Failure> {
    let known = known.map(|text| {
        let key = VerifierKey::parse(text);
        let key = key.map_err(|error| Failure::unclear(format!("witness.vkey: {error}")))?;
        Ok::<_, Failure>(key.name().to_owned())
    });
    match (known.transpose()?, given) {
        (Some(known), Some(given)) if known != given => {
            let message = format!("this witness is named {known:?} for good, not {given:?}");
            Err(Failure::unclear(message).hint("leave --name out, or start with another --dir"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Failure::unclear("a new witness needs a name").hint(
            "give --name NAME, such as witness.example.org/w1: its cosignatures bear it for good",
        )),
    }
}

fn logs(args: &Args) -> Result<Vec<Log>, Failure> {
    let unclear = |name: &dyn std::fmt::Display, error: &dyn std::fmt::Display| {
        Failure::unclear(format!("{name}: {error}"))
    };
    let mut logs = match &args.logs {
        None => vec![],
        Some(path) => {
            let bytes = read_bounded(path, MAX_WITNESS_LOGS)?;
            let text =
                String::from_utf8(bytes).map_err(|_| unclear(&path.display(), &"not UTF-8"))?;
            Log::parse_list(&text).map_err(|error| unclear(&path.display(), &error))?
        }
    };
    for key in &args.log {
        logs.push(Log::parse(key).map_err(|error| unclear(&"--log", &error))?);
    }
    if logs.is_empty() {
        return Err(Failure::unclear("a witness without logs cosigns nothing")
            .hint("give --log VKEY, which `countersign log info` prints, or --logs FILE"));
    }
    Ok(logs)
}
