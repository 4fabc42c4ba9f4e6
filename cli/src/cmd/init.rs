//! `countersign init`: a production instance, up to the point where only its certificates are missing.
//!
//! Two tiers: the root is made and kept elsewhere (`countersign ca ceremony`). Here are the keys that the
//! server uses, a signing request for each that the root is to certify, and the configuration, which is
//! written last: with it the instance is made.

use super::ca::ceremony::{Root, create, offline, sealing};
use super::ca::{fingerprint, import};
use crate::args::serve::{Curve, Init};
use crate::config::{self, Config, Expected};
use crate::failure::Failure;
use crate::instance::{Directory, directory, keys};
use crate::{output, passphrase};
use console::Term;
use countersign_ca::ceremony::{Role, requested_key};
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &Init) -> Result<ExitCode, Failure> {
    let file = args.dir.join(config::NAME);
    if file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(Failure::unclear(message).hint("name another --dir, or edit the configuration"));
    }
    let url = ask(
        "--url",
        args.url.as_ref().map(url::Url::as_str),
        "The URL by which clients will reach it: ",
        config::base_url,
    )?;
    let organization = ask(
        "--organization",
        args.organization.as_deref(),
        "Whose it is, for the names in certificates: ",
        config::organization,
    )?;
    if let Some(root) = &args.root
        && absolute(root)?.starts_with(absolute(&args.dir)?)
    {
        return Err(Failure::unclear("the root's directory must not be inside the server's")
            .hint("name a directory elsewhere with --root, best on another medium"));
    }
    let network = args.root.as_ref().map(|_| offline(&args.network)).transpose()?;
    let text = configuration(args, url.as_str(), &organization)?;
    if let Err(mistakes) = Config::parse(&text, &args.dir, |_| true) {
        let all: Vec<_> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
        return Err(Failure::unclear(format!("this would be no configuration:{}", all.concat())));
    }
    let passphrase = sealing(&args.sealing, "the server's keys")?;
    let of_root = match &args.root {
        Some(root) if !args.sealing.unencrypted_keys && !root.join("root.crt").exists() => {
            let file = args.root_passphrase_file.as_deref();
            Some(passphrase::choose(file, "the root's key: --root-passphrase-file")?)
        }
        _ => None,
    };
    let sealed = passphrase.as_ref().map(|passphrase| &passphrase[..]);
    let folder = Directory::open(&args.dir)?;
    folder.settle(&url)?;
    keys::make_for_logs(&folder, sealed)?;
    let mut requests = Vec::new();
    for (role, token) in
        [(Role::Issuing, &args.issuing_key), (Role::Timestamps, &args.timestamps_key)]
    {
        let (name, token) = (role.name(), token.as_deref());
        let request =
            keys::make_for_authority(&args.dir, name, role, &organization, token, sealed)?;
        requests.push((role, request));
    }
    directory::write(&file, text.as_bytes())?;
    // Restart finds an instance that lacks its certificates; serving it says so.
    drop(folder);

    let mut told = format!("Made {} with the keys of the server.\n", args.dir.display());
    for (role, request) in &requests {
        let key = requested_key(request.as_bytes());
        let key = key.map_err(|error| Failure::unclear(error.to_string()))?;
        told.push_str(&format!("  {:<10} key SHA-256 {}\n", role.name(), fingerprint(&key)));
    }
    output::print(&told)?;
    let (dir, serve) = (args.dir.display(), "countersign serve --dir");
    let Some((root, network)) = args.root.as_deref().zip(network) else {
        output::print(&format!(
            "\nNext, on a machine without a network, once for all:\n  countersign ca ceremony --out ROOT --organization {organization:?}\nThere, with the requests that lie in {dir}/requests:\n  countersign ca ceremony sign --root ROOT --csr issuing.csr --as issuing --out issuing.crt\n  countersign ca ceremony sign --root ROOT --csr timestamps.csr --as timestamps --out timestamps.crt\nHere, with the certificates (or those that a root of your own has made of the requests):\n  countersign ca import --dir {dir} issuing.crt\n  countersign ca import --dir {dir} timestamps.crt\n  {serve} {dir}\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    if !root.join("root.crt").exists() {
        output::print("\n")?;
        create(root, &organization, Curve::P384, of_root.as_ref(), &network)?;
    }
    let root = Root::open(root, args.root_passphrase_file.as_deref())?;
    for (role, request) in &requests {
        output::print("\n")?;
        let name = format!("{}.csr", role.name());
        let chain = root.certify(*role, request.as_bytes(), &name, &network)?;
        import::install(&file, &chain, None)?;
    }
    output::print(&format!(
        "\nNext: move {} off this machine, then\n  {serve} {dir}\n",
        args.root.as_deref().unwrap_or(Path::new("")).display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The flag, or what is answered on a terminal.
fn ask<T>(
    flag: &str,
    given: Option<&str>,
    question: &str,
    convert: impl Fn(&str) -> Result<T, Expected>,
) -> Result<T, Failure> {
    let refused = |expected: &Expected, found: &str| {
        Failure::unclear(format!("{flag}: expected {}, found {found:?}", expected.what()))
    };
    if let Some(given) = given {
        return convert(given).map_err(|expected| refused(&expected, given));
    }
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return Err(Failure::unclear(format!("{flag} is missing")));
    }
    loop {
        let asked = terminal.write_str(question).and_then(|()| terminal.read_line());
        let answer = asked.map_err(|error| Failure::unclear(format!("cannot ask: {error}")))?;
        match convert(answer.trim()) {
            Ok(value) => return Ok(value),
            Err(expected) => eprintln!("{}", refused(&expected, answer.trim()).text()),
        }
    }
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    // What is there says where links lead; what is not yet cannot be a link.
    let absolute = path.canonicalize().or_else(|_| std::path::absolute(path));
    absolute.map_err(|error| Failure::file("find", path, &error))
}

fn configuration(args: &Init, url: &str, organization: &str) -> Result<String, Failure> {
    let listen = args.listen;
    let path = |path: &Path| absolute(path).map(|path| path.display().to_string());
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", path(certificate)?, path(key)?)
        }
        _ => "# [tls]\n# certificate = \"tls/server.crt\"\n# key = \"tls/server.key\"\n".to_owned(),
    };
    let passphrase = match &args.sealing.passphrase_file {
        Some(file) => format!("[keys]\npassphrase-file = {:?}\n", path(file)?),
        None => "# [keys]\n# passphrase-file = \"/run/secrets/countersign\"\n".to_owned(),
    };
    let issuers = match &args.issuers {
        Some(file) => format!("issuers = {:?}\n", path(file)?),
        None => "# issuers = \"issuers.yaml\"\n".to_owned(),
    };
    let url = url.trim_end_matches('/');
    let issuing = args.issuing_key.as_deref().unwrap_or("keys/issuing.pem");
    let timestamps = args.timestamps_key.as_deref().unwrap_or("keys/timestamps.pem");
    Ok(format!(
        r#"# A Countersign instance. `countersign doctor` checks this file; SIGHUP has the server read it again.
# Paths are relative to this file's folder.

# The URL by which clients reach it. Its host is the name of the logs, for good.
url = "{url}"

# Whose it is, for the trusted root that clients get.
organization = "{organization}"

# Where the server listens. Beyond loopback it wants [tls].
listen = "{listen}"

# Where people log in, for clients that ask: the URL of an OIDC issuer.
# login = "https://login.example.com"

# Whose identity tokens are accepted: a Fulcio configuration, YAML. Without it nobody gets a certificate.
{issuers}
# Who of them is given a certificate, and whose entries the logs take: docs/policy.md. A dry run lets everybody
# through and puts on record whom it would refuse. require-intent: no certificate without a word about what it is for,
# which only clients of this project say.
# policy = "policy.yaml"
# policy-dry-run = true
# require-intent = true

# TLS, PEM. The files are read again when they change.
{tls}
# Who cosigns the log's checkpoints before they are published, and what happens when too few do: docs/watching.md.
# [witnesses]
# policy = "witness-policy"
# timeout = "1s"
# lacking = "publish"    # or "hold"

# Whose entries the signature logs take, beside what they check of each. Without it anybody's, as public logs do.
# "own" is this instance's authority; certificates must be valid when the entry comes. An empty list takes none.
# [log]
# certificates = ["own", "partner/trusted_root.json"]
# keys = ["keys/release.pub"]

# How often certificates are given. A one-time token is good for one; a restart refuses tokens issued before it.
# [issuance]
# one-time-tokens = true
# per-identity-a-minute = 30

# What the server takes on at a time; changes with a restart only: docs/operations.md.
# [limits]
# requests = 512
# rate = 1000                    # a second of one peer
# burst = 2000                   # of one peer at once
# connections = 800
# connections-per-peer = 200
# head-timeout = "30s"
# request-timeout = "60s"
# drain-timeout = "10s"

# The passphrase of encrypted keys: the first line of a file. Without it the systemd credential
# countersign-passphrase, or a prompt.
{passphrase}
# The issuing CA's key, and its certificate with those above it, the root last. Add the next one below with
# a time `from` which it signs: countersign ca rotate issuing.
[[issuing]]
key = {issuing:?}
certificates = "keys/issuing.crt"

# The same for timestamps.
[[timestamps]]
key = {timestamps:?}
certificates = "keys/timestamps.crt"
"#
    ))
}
