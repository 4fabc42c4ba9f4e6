//! `countersign dev`: a whole private instance in one process, on one listener, in one directory.

use crate::args::Dev;
use crate::cmd::serve;
use crate::failure::Failure;
use crate::gate::{InForce, Terms};
use crate::instance::{Directory, Instance, development, production};
use crate::output;
use crate::server::{Role, Server};
use crate::witness_policy;
use console::style;
use countersign_front::Limits;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use url::Url;

/// Where an instance listens unless told otherwise.
const DEFAULT: &str = "127.0.0.1:8420";

pub(crate) fn run(args: Dev) -> Result<ExitCode, Failure> {
    serve::run_with_log(args.log_format, "warn,countersign::cmd::serve=info", run_instance(args))
}

async fn run_instance(args: Dev) -> Result<ExitCode, Failure> {
    let directory = Directory::open(&args.dir)?;
    let remembered = directory.settings()?.map(|settings| settings.url);
    let address = address(&args, remembered.as_ref())?;
    if !address.ip().is_loopback() && !args.listen_beyond_loopback {
        let message =
            format!("{address} is not a loopback address: whoever reached it could sign as anyone");
        return Err(Failure::unclear(message)
            .hint("listen on 127.0.0.1, or add --listen-beyond-loopback if nothing but tests can reach this machine"));
    }
    let others =
        args.fulcio_config.as_deref().map_or_else(|| Ok(Vec::new()), production::issuers)?;
    let policy = args.policy.as_deref();
    let policy = policy.map(|path| InForce::read(path, Terms::default())).transpose()?;
    let (listener, url) = listen(address, args.url, remembered).await?;
    let witnesses = witness_policy::witnesses(&args.witnesses)?;
    let instance = development::open(directory, &url, others, policy, witnesses).await?;
    let signals = serve::Signals::mind()?;
    let server = Server::start(instance, listener, Limits::default(), None, &Role::ALL);
    output::print(&welcome(server.instance()))?;
    // A terminal that went away ends it, too.
    serve::until_stopped(server, signals, async |_| false).await
}

/// The flag, else where the directory's instance was last, else the default.
fn address(args: &Dev, remembered: Option<&Url>) -> Result<SocketAddr, Failure> {
    if let Some(address) = args.listen {
        return Ok(address);
    }
    let addresses = remembered.and_then(|url| url.socket_addrs(|| None).ok());
    let loopback = |address: &SocketAddr| address.ip().is_loopback();
    let last = addresses.and_then(|addresses| addresses.into_iter().find(loopback));
    last.map_or_else(|| DEFAULT.parse().map_err(|_| Failure::unclear("no address")), Ok)
}

/// Listens, and says by which URL: the one given, the remembered one if its port fits, else
/// `http://ADDRESS`.
pub(crate) async fn listen(
    address: SocketAddr,
    given: Option<Url>,
    remembered: Option<Url>,
) -> Result<(TcpListener, Url), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Failure::unclear(format!("port {} is taken", address.port())).hint(
                "stop the other program, or give --listen 127.0.0.1:PORT (0 picks a free one)",
            )
        }
        _ => Failure::unclear(format!("cannot listen on {address}: {error}")),
    })?;
    let bound = listener.local_addr();
    let bound = bound.map_err(|error| Failure::unclear(format!("cannot listen: {error}")))?;
    let fits = |url: &Url| {
        !address.ip().is_loopback() || url.port_or_known_default() == Some(bound.port())
    };
    let url = given.or_else(|| remembered.filter(fits));
    let own = || Url::parse(&format!("http://{bound}"));
    let url = url.map_or_else(own, Ok).map_err(|_| Failure::unclear("the address makes no URL"))?;
    Ok((listener, url))
}

fn welcome(instance: &Instance) -> String {
    let url = instance.settings.url.as_str().trim_end_matches('/');
    let trust = instance.directory.file("trust");
    let config = trust.join("client_trust_config.json");
    let (config, root, signing) = (
        config.display(),
        trust.join("trusted_root.json").display().to_string(),
        trust.join("signing_config.json").display().to_string(),
    );
    let size = instance.logs.signatures.shards().active().head().checkpoint().size;
    let warning =
        style("DEVELOPMENT ONLY: whoever reaches this instance can sign as anyone.").red().bold();
    format!(
        "{warning}
Serving {url} with {size} log entries. Stop with Ctrl-C; the same directory continues the same logs and keys.

Sign and verify a file:
  countersign token --instance {url} --email you@example.com > token.jwt
  countersign sign-blob --trust-config {config} --identity-token token.jwt FILE
  countersign verify-blob --trust-config {config} --certificate-identity you@example.com --certificate-oidc-issuer {url} FILE

The same with cosign 3 or sigstore-python 4:
  cosign sign-blob --yes --signing-config {signing} --trusted-root {root} --identity-token token.jwt --bundle FILE.sigstore.json FILE
  sigstore --trust-config {config} sign --identity-token \"$(cat token.jwt)\" FILE

As a GitHub Actions job would:
  export ACTIONS_ID_TOKEN_REQUEST_URL='{url}/ci/actions?repository=acme/widget' ACTIONS_ID_TOKEN_REQUEST_TOKEN=development
"
    )
}
