//! `countersign serve`: an instance by its configuration.

use crate::args::serve::Serve;
use crate::config::Config;
use crate::failure::Failure;
use crate::instance::keys::Lifetime;
use crate::instance::{Directory, Instance, production};
use crate::logging::{self, LogFormat};
use crate::output;
use crate::runtime::on_all_cores;
use crate::server::{Role, Server};
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the program's log has unless told otherwise: what the server does, but not each request, for probes alone would
/// fill it.
const LOG: &str = "info,countersign_front::request=warn";

/// How often the program's log tells of what ends soon.
const REMIND: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(args: Serve) -> Result<ExitCode, Failure> {
    match args.role.as_slice() {
        [Role::Admission] => {
            let server = super::admission::serve(args.place.file());
            return run_with_log(args.log_format, LOG, server);
        }
        roles if roles.contains(&Role::Admission) => {
            return Err(Failure::unclear("admission runs in a process of its own")
                .hint("give --role admission alone, and its configuration with --config"));
        }
        _ => {}
    }
    run_with_log(args.log_format, LOG, serve(args))
}

/// Runs a server, with the program's log by `filter` unless `COUNTERSIGN_LOG` has another.
pub(super) fn run_with_log(
    format: LogFormat,
    filter: &str,
    server: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    logging::init(format, filter);
    on_all_cores(server)?
}

async fn serve(args: Serve) -> Result<ExitCode, Failure> {
    let path = args.place.file();
    let config = Config::load(&path)?;
    let directory = Directory::open(&config.directory)?;
    let passphrase = production::passphrase(&config)?;
    let passphrase = passphrase.as_ref().map(|passphrase| &passphrase[..]);
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| {
        Failure::unclear(format!("cannot listen on {}: {error}", config.listen))
            .hint("change \"listen\" in the configuration, or stop the other program")
    })?;
    let settings = directory.settle(&config.url)?;
    let plan = production::plan(&config, passphrase)?;
    let instance = Instance::open(directory, settings, plan, passphrase).await?;
    let tls = match &config.tls {
        Some(files) => Some((RustlsConfig::from_config(files.read()?), files.clone())),
        None => None,
    };
    let address = listener.local_addr();
    let address = address.map_err(|error| Failure::unclear(format!("cannot listen: {error}")))?;
    let roles = if args.role.is_empty() { &Role::ALL[..] } else { &args.role };
    let acceptor = tls.as_ref().map(|(server, _)| server.clone());
    let signals = Signals::mind()?;
    let server = Server::start(instance, listener, config.limits.clone(), acceptor, roles);
    if let Some((server, files)) = &tls {
        tokio::spawn(files.clone().watch(server.clone()));
    }
    tokio::spawn(remind(Arc::clone(server.instance())));
    output::print(&format!(
        "Serving {} on {address} by {}. SIGHUP reads the configuration again; SIGTERM stops.\n",
        config.url.as_str().trim_end_matches('/'),
        path.display(),
    ))?;
    let reload = async |server: &Server| {
        let outcome = async || {
            let new = Config::load(&path)?;
            new.fits(&config)?;
            let passphrase = production::passphrase_again(&new, passphrase)?;
            let plan = production::plan(&new, passphrase.as_ref().map(|text| &text[..]))?;
            let certificate = new.tls.as_ref().map(crate::server::tls::Files::read).transpose()?;
            server.reload(plan).await?;
            if let (Some(certificate), Some((server, _))) = (certificate, &tls) {
                server.reload_from_config(certificate);
            }
            Ok::<_, Failure>(())
        };
        match outcome().await {
            Ok(()) => tracing::info!("the configuration was read again and is in use"),
            Err(error) => {
                tracing::error!("the old configuration stays in use: {}", error.text());
            }
        }
        true
    };
    until_stopped(server, signals, reload).await
}

/// Serves until SIGTERM or SIGINT, then finishes what is under way. `hung_up` says whether to go on after
/// SIGHUP.
pub(super) async fn until_stopped(
    server: Server,
    signals: Signals,
    hung_up: impl AsyncFn(&Server) -> bool,
) -> Result<ExitCode, Failure> {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if !hung_up(&server).await {
                    break;
                }
            }
        }
    }
    tracing::info!("stopping: finishing what is under way");
    let at_once = server.handle();
    let stopped = server.stop();
    tokio::pin!(stopped);
    let outcome = tokio::select! {
        outcome = &mut stopped => outcome,
        _ = interrupt.recv() => {
            tracing::warn!("stopping at once: what is under way is cut off");
            at_once.shutdown();
            stopped.await
        }
    };
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// The signals that a server minds.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) hangup: Signal,
}

impl Signals {
    /// Minds them from now on: before the server is ready, since whoever sees it ready may send one.
    pub(super) fn mind() -> Result<Self, Failure> {
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
            hangup: handler(SignalKind::hangup())?,
        })
    }
}

pub(super) fn handler(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::unclear(format!("cannot handle signals: {error}")))
}

/// Tells the program's log, at once and every day, of keys and certificates that end soon.
async fn remind(instance: Arc<Instance>) {
    loop {
        let now = Timestamp::now();
        for lifetime in instance.services().lifetimes(now) {
            if let Some(warning) = lifetime.warning(now) {
                let Lifetime { key, in_use, from, .. } = lifetime;
                tracing::warn!(key, in_use, %from, "{warning}");
            }
        }
        tokio::time::sleep(REMIND).await;
    }
}
