//! `countersign serve --role admission`, and `countersign containerd-verify` for nodes.

use super::serve::Signals;
use crate::admission::{Admission, Deadline, Rules, Tags, http, watched};
use crate::args::admission::ContainerdVerify;
use crate::config::admission::{Config, Server};
use crate::failure::{Failure, NO, UNCLEAR, YES};
use crate::output;
use crate::runtime::block_on;
use crate::server::metrics as exporter;
use axum_server::tls_rustls::RustlsConfig;
use countersign_front::{Limits, listen};
use countersign_policy::admission::Verdict;
use metrics::{counter, gauge};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;

/// How often policies and trust roots are looked at: a moment after a volume of Kubernetes has them.
const LOOK: Duration = Duration::from_secs(2);

/// Time for a request, whatever deadline a review has: as long as any API server waits.
const LONGEST: Duration = Duration::from_secs(30);

/// Largest descriptor that containerd hands over, in bytes. Real ones have a few hundred.
const MAX_DESCRIPTOR: u64 = 64 << 10;

/// One API server is one peer, with all the pods of a cluster.
fn limits() -> Limits {
    let each = |number| NonZeroU32::new(number).expect("not zero");
    Limits {
        rate: each(10_000),
        burst: each(20_000),
        connections_per_peer: 800,
        request: LONGEST,
        ..Limits::default()
    }
}

/// Serves until it is told to stop.
pub(super) async fn serve(path: PathBuf) -> Result<ExitCode, Failure> {
    let begun = SystemTime::now();
    let config = Config::load(&path, true)?;
    let Some(Server { listen: address, tls: files }) = config.server.clone() else {
        return Err(Failure::unclear("expected listen and [tls] in the configuration"));
    };
    let (rules, watch) = blocking({
        let config = config.clone();
        move || Ok((Rules::load(config.clone())?, watched(&config)))
    })
    .await?;
    let tls = RustlsConfig::from_config(files.read()?);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::unclear(format!("cannot listen on {address}: {error}"))
            .hint("change \"listen\" in the configuration, or stop the other program")
    })?;
    let address = listener.local_addr();
    let address = address.map_err(|error| Failure::unclear(format!("cannot listen: {error}")))?;
    let mut signals = Signals::mind()?;
    let (name, serial) = rules.shown();
    let admission = Arc::new(Admission::new(rules));
    let mut known = Seen::default().following(&path, watch, begun);
    let limits = limits();
    let routes = http::routes(Arc::clone(&admission));
    gauge!("countersign_admission_policy_serial").set(serial as f64);
    let (handle, task) =
        listen(Arc::new(RwLock::new(routes)), listener, &limits, Some(tls.clone()));
    let upkeep = tokio::spawn(exporter::upkeep());
    let watch = tokio::spawn(files.clone().watch(tls.clone()));
    output::print(&format!(
        "Serving https://{address} for cluster {} by policy {name} serial {serial} and {}. SIGHUP reads both again; SIGTERM stops.\n",
        config.cluster,
        path.display(),
    ))?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let asked = tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => true,
            _ = look.tick() => false,
        };
        if asked || known.changed() {
            known = reload(&path, known, &admission).await;
        }
    }
    eprintln!("stopping: finishing what is under way");
    handle.graceful_shutdown(Some(limits.drain));
    let finished = task.await;
    upkeep.abort();
    watch.abort();
    match finished {
        Ok(Err(error)) => Err(Failure::unclear(format!("the server failed: {error}"))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Decides by what the files have come to say; if that does not do, goes on as before and says so.
async fn reload(path: &Path, known: Seen, admission: &Arc<Admission>) -> Seen {
    // Before they are read: what changes meanwhile is read once more.
    let (begun, mut seen) = (SystemTime::now(), known.again());
    let outcome = async {
        let config = {
            let path = path.to_owned();
            blocking(move || Config::load(&path, true)).await?
        };
        // Also those that do not do: it is these that somebody mends.
        let files = {
            let config = config.clone();
            blocking(move || Ok(watched(&config))).await?
        };
        seen = seen.following(path, files, begun);
        let admission = Arc::clone(admission);
        blocking(move || admission.reload(config)).await
    };
    let label = match outcome.await {
        Ok((name, serial)) => {
            gauge!("countersign_admission_policy_serial").set(serial as f64);
            tracing::info!(
                policy = name,
                serial,
                "policy and trust were read again and are in use"
            );
            "done"
        }
        Err(error) => {
            tracing::error!("the old policy stays in use: {}", error.text());
            "failed"
        }
    };
    counter!("countersign_admission_reloads_total", "outcome" => label).increment(1);
    gauge!("countersign_admission_reload_failed").set(f64::from(u8::from(label == "failed")));
    seen
}

/// Files, and when each was changed.
#[derive(Default)]
struct Seen(BTreeMap<PathBuf, Option<SystemTime>>);

impl Seen {
    fn again(&self) -> Self {
        Self(self.0.keys().map(|file| (file.clone(), changed(file))).collect())
    }

    /// The configuration at `path`, and `files`. One that was not known when reading began counts as seen if
    /// it has not changed since then.
    fn following(&self, path: &Path, files: Vec<PathBuf>, begun: SystemTime) -> Self {
        let seen = |file: PathBuf| {
            let new = || changed(&file).filter(|changed| *changed <= begun);
            let then = self.0.get(&file).copied().unwrap_or_else(new);
            (file, then)
        };
        Self(std::iter::once(path.to_owned()).chain(files).map(seen).collect())
    }

    fn changed(&self) -> bool {
        self.0.iter().any(|(file, then)| changed(file) != *then)
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|file| file.modified()).ok()
}

/// Reads files and perhaps stored trust, away from what serves.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::unclear("reading the configuration failed; see the log")))
}

/// What containerd calls before it lets an image in: exit status 0 lets it in, all else does not, and the
/// reason goes to standard output.
pub(super) fn containerd_verify(args: &ContainerdVerify) -> Result<ExitCode, Failure> {
    let (status, reason) = match decide(args) {
        Ok(Verdict::Allowed) => (YES, "allowed".to_owned()),
        Ok(Verdict::Refused(why)) => (NO, why),
        Ok(Verdict::Undecided(why)) => {
            (UNCLEAR, format!("undecided, so it may not come in: {why}"))
        }
        Err(failure) => (UNCLEAR, failure.text()),
    };
    output::print(&format!("{reason}\n"))?;
    Ok(ExitCode::from(status))
}

fn decide(args: &ContainerdVerify) -> Result<Verdict, Failure> {
    let image = args.image()?;
    // Nothing is decided by it, but who hands it over must not meet a closed pipe.
    let _ = std::io::stdin().take(MAX_DESCRIPTOR).read_to_end(&mut Vec::new());
    let rules = Rules::load(Config::load(&args.config, false)?)?;
    let deadline = Deadline::of(&rules, None);
    Ok(block_on(async { rules.judge(&image, None, Tags::Refused, deadline).await })?.verdict)
}
