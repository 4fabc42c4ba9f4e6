//! One request: the registry's demand for credentials is met, and redirects of downloads are followed.

use super::{Call, MAX_REDIRECTS, Repository, SLOWEST, is_local};
use crate::http::Reply;
use crate::oci::Error;
use crate::oci::auth::{self, Challenge};
use crate::oci::credentials::Credential;
use reqwest::Method;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

impl Repository {
    /// Sends a request, meets the registry's demand for credentials, and follows redirects of downloads.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let registry = &*self.registry;
        let mut url = call.url.clone();
        let mut met = false;
        let mut redirects = 0;
        loop {
            let own = url.origin() == registry.base.origin();
            let known = match own {
                true => registry.authorizations.lock().await.get(&self.name).cloned(),
                false => None,
            };
            let request = |client: &reqwest::Client| {
                let mut request = client.request(call.method.clone(), url.clone());
                for (name, value) in &call.headers {
                    request = request.header(*name, value);
                }
                if let Some(authorization) = &known {
                    request = request.header("authorization", authorization.as_str());
                }
                match call.body {
                    Some(body) => request.body(body()),
                    None => request,
                }
            };
            let longer = Duration::from_secs(call.size / SLOWEST);
            let reply = registry.http.exchange(request, &url, call.read, longer).await?;
            match reply.status {
                401 if own && !met => {
                    met = true;
                    self.authorize(&reply, known).await?;
                }
                401 if own => return Err(self.denied("401, although it was shown credentials")),
                301 | 302 | 303 | 307 | 308
                    if matches!(call.method, Method::GET | Method::HEAD) =>
                {
                    redirects += 1;
                    url = self.redirected(&url, &reply, redirects)?;
                }
                _ => return Ok(reply),
            }
        }
    }

    fn redirected(&self, from: &Url, reply: &Reply, count: usize) -> Result<Url, Error> {
        let location = reply.header("location").unwrap_or_default();
        let refused =
            |reason| Error::Redirect { url: from.to_string(), to: location.to_owned(), reason };
        if count > MAX_REDIRECTS {
            return Err(refused("that is one redirect too many"));
        }
        let to = from.join(location).map_err(|_| refused("that is no URL"))?;
        if !matches!(to.scheme(), "http" | "https") {
            return Err(refused("that is not HTTP"));
        }
        self.check_downgrade(from, &to)?;
        Ok(to)
    }

    /// From TLS to plain HTTP nothing leads, nor from loopback to plain HTTP elsewhere.
    pub(super) fn check_downgrade(&self, from: &Url, to: &Url) -> Result<(), Error> {
        let private = from.scheme() == "http" && (is_local(to) || !is_local(from));
        if to.scheme() == "https" || private {
            return Ok(());
        }
        let (url, to) = (from.to_string(), to.to_string());
        Err(Error::Redirect { url, to, reason: "anybody could read and change it there" })
    }

    /// Gets what the registry demands in its 401, once for all requests that run into it together.
    async fn authorize(&self, reply: &Reply, used: Option<Zeroizing<String>>) -> Result<(), Error> {
        let registry = &*self.registry;
        let mut authorizations = registry.authorizations.lock().await;
        if authorizations.get(&self.name) != used.as_ref() {
            return Ok(());
        }
        let challenge = Challenge::of(reply)
            .ok_or_else(|| self.denied("401, and it demands nothing that is known here"))?;
        let credential = match &registry.credential {
            Some(credential) => Some(credential.clone()),
            None => {
                let env = |name: &str| std::env::var_os(name);
                Credential::find(&registry.name, &self.name, env)?
            }
        };
        let authorization = match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => Zeroizing::new(format!("Bearer {}", *token)),
            (Challenge::Basic, Some(Credential::Password(user, password))) => {
                auth::basic(&user, &password)
            }
            (Challenge::Basic, _) => {
                return Err(self.denied("it demands user and password (`docker login`)"));
            }
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let realm = registry
                    .base
                    .join(&realm)
                    .map_err(|_| self.denied("the token server that it names has no URL"))?;
                self.check_downgrade(&registry.base, &realm)?;
                let scopes: Vec<_> =
                    scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect();
                let token = auth::token(
                    &registry.http,
                    &realm,
                    service.as_deref(),
                    &scopes,
                    credential.as_ref(),
                );
                let token = token.await.map_err(|error| match error {
                    Error::Http(error) if error.is_refusal() => {
                        self.denied(&format!("its token server says no: {error}"))
                    }
                    error => error,
                })?;
                Zeroizing::new(format!("Bearer {}", *token))
            }
        };
        authorizations.insert(self.name.clone(), authorization);
        Ok(())
    }
}
