//! As whom to sign: by a token that is there already, or as a person who logs in.

use crate::args::{Login, Signing};
use crate::failure::Failure;
use crate::output::visible;
use countersign_client::login::{self, Device, Provider};
use countersign_client::token::{self, IdentityToken, Source};
use countersign_client::trust::SigningConfig;
use jiff::Timestamp;
use std::process::{Command, Stdio};
use url::Url;

/// Where an identity token comes from.
pub(crate) enum Identity {
    /// The flags or the surroundings.
    Source(Source),
    /// A person, by this provider.
    Person(Login, Url),
}

/// Whether somebody is there who can log in: a job may have a terminal, too.
fn is_attended() -> bool {
    let job = std::env::var_os("CI").is_some_and(|set| !set.is_empty() && set != "false");
    !job && console::user_attended_stderr()
}

impl Identity {
    /// By the flags, else by what the surroundings offer, else on a terminal by login.
    pub(crate) fn find(args: &Signing, config: &SigningConfig) -> Result<Self, Failure> {
        let unclear = |error: token::Error| Failure::unclear(error.to_string());
        // Set to nothing, as by a CI secret that does not exist, is not set.
        let given = args.identity_token.as_deref().filter(|text| !text.trim().is_empty());
        let how = match (args.login, given) {
            (Some(how), None) => how,
            (_, explicit) => {
                let source = Source::find(explicit, |name| std::env::var(name).ok());
                match source {
                    Ok(source) => return Ok(Self::Source(source)),
                    Err(token::Error::None) if is_attended() => usual(),
                    Err(error) => return Err(unclear(error)),
                }
            }
        };
        let issuer = config.login(Timestamp::now()).ok_or_else(|| {
            Failure::unclear("the signing config names no identity provider to log in at")
                .hint("give --identity-token TOKEN|FILE|-")
        })?;
        Ok(Self::Person(how, issuer))
    }

    /// Gets the token.
    pub(crate) async fn token(&self) -> Result<IdentityToken, Failure> {
        match self {
            Self::Source(source) => {
                let token = source.clone().fetch().await;
                token.map_err(|error| Failure::unclear(error.to_string()))
            }
            Self::Person(how, issuer) => log_in(*how, issuer).await.map_err(|error| {
                let message = error.to_string();
                match error {
                    login::Error::Refused { .. } => Failure::no(message),
                    _ => Failure::unclear(message),
                }
            }),
        }
    }
}

/// A browser, unless this is somebody else's screen.
fn usual() -> Login {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let screen =
        cfg!(not(unix)) || cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY");
    if screen && !set("SSH_CONNECTION") { Login::Browser } else { Login::Device }
}

async fn log_in(how: Login, issuer: &Url) -> Result<IdentityToken, login::Error> {
    let provider = Provider::discover(issuer).await?;
    eprintln!("the e-mail address you log in with becomes public, for good");
    match how {
        Login::Browser => provider.by_browser(open).await,
        Login::Device => provider.by_device(show).await,
    }
}

/// Shows a page in the browser; whoever has none opens it by hand.
fn open(page: &Url) {
    eprintln!("log in at {}", visible(page.as_str()));
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(page.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without such a program the line above is what there is.
    let _ = command.spawn();
}

fn show(device: &Device) {
    let page = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
    eprintln!("on any device open {}", visible(page));
    eprintln!("and enter {}", visible(&device.user_code));
}
