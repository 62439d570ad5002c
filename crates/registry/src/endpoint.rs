//! One place that serves repositories: its URL, whom it may be told about, and the tokens it gave.
//!
//! Credentials go to the configured host and its token realm alone. Redirects are followed without them as soon as they
//! lead to another host (T19).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use gantry_domain::{Error, ErrorKind, Result, registry::RegistryAuth};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::OnceCell;

use crate::{
    address::Host,
    again::{Again, Tries},
    challenge::{self, Challenge},
    client::{Answer, Client, Payload, Question, SHORT, go_method},
    config::RegistryConfig,
    login,
    refusal::Refusal,
    token,
};

/// Redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Where a repository may be found, from the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `registry.example:5000`.
    pub authority: String,
    /// `https`, `http`, or both in turn where the host is an insecure one.
    pub scheme: Option<&'static str>,
    /// In front of the repository: `/v2` as a rule.
    pub prefix: String,
    pub headers: HeaderMap,
    /// Certificates beyond those of the host's folder; `None` reads the folder.
    pub tls: Option<Arc<ClientConfig>>,
    pub pull: bool,
    pub push: bool,
    /// The registry whose repositories these are, where that is another host: mirrors of several tell them apart by it.
    pub stands_for: Option<String>,
}

/// A place with credentials for it.
pub(crate) struct Endpoint {
    place: Place,
    auth: Option<RegistryAuth>,
    config: Arc<RegistryConfig>,
    /// Another place has what this one has not: then nobody waits for this one.
    spare: bool,
    /// It could not be spoken to.
    missed: AtomicBool,
    reached: OnceCell<Reached>,
    /// Tokens by scope. A short lock, never held across an await.
    tokens: Mutex<HashMap<String, HeaderValue>>,
    /// Where redirects led: their connections are kept too.
    others: Mutex<HashMap<String, Arc<Client>>>,
}

/// What the first contact told.
struct Reached {
    client: Arc<Client>,
    scheme: &'static str,
    challenge: Mutex<Option<Challenge>>,
}

/// A request below the repository's place.
pub(crate) struct Ask<'a> {
    pub method: Method,
    /// `/library/x/manifests/latest`, or a whole URL that the registry gave.
    pub target: Target,
    pub scope: &'a str,
    pub headers: HeaderMap,
    pub payload: Payload,
    pub patience: std::time::Duration,
    pub again: Again,
}

pub(crate) enum Target {
    Path(String),
    Url(Uri),
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, path: String, scope: &'a str) -> Self {
        let (headers, payload) = (HeaderMap::new(), Payload::None);
        Self { method, target: Target::Path(path), scope, headers, payload, patience: SHORT, again: Again::Broken }
    }
    pub fn again(self, again: Again) -> Self {
        Self { again, ..self }
    }
    pub fn with(mut self, name: header::HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::try_from(value).map_err(|_| Error::invalid(format!("invalid value of {name}")))?;
        self.headers.append(name, value);
        Ok(self)
    }
}

impl Endpoint {
    pub fn new(place: Place, auth: Option<RegistryAuth>, config: Arc<RegistryConfig>) -> Self {
        let (reached, tokens, others) = (OnceCell::new(), Mutex::default(), Mutex::default());
        Self { place, auth, config, spare: false, missed: AtomicBool::new(false), reached, tokens, others }
    }

    /// One that others stand behind.
    pub fn spare(self) -> Self {
        Self { spare: true, ..self }
    }

    /// Whether it is worth asking: one that could not be reached is not dialled for each layer again.
    pub fn is_there(&self) -> bool {
        !self.spare || !self.missed.load(Ordering::Relaxed)
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Sends a request, signed in as the registry wants it, and follows redirects of reads. Any status is an answer.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer> {
        Ok(self.send_located(ask).await?.0)
    }

    /// The same, with the URL that the request went to.
    pub async fn send_located(&self, mut ask: Ask<'_>) -> Result<(Answer, Uri)> {
        let reached = self.reached(ask.again).await.inspect_err(|_| self.missed.store(true, Ordering::Relaxed))?;
        let url = self.url(reached, &ask.target)?;
        let mut payload = std::mem::replace(&mut ask.payload, Payload::None);
        let mut tries = Tries::new(ask.again, &self.config);
        loop {
            let again = payload.again();
            let answer = self.signed(reached, &ask, &url, payload).await?;
            payload = match again {
                Some(again) => again,
                None => return Ok((answer, url)),
            };
            if let Some(answer) = tries.outlasted(answer).await {
                return Ok((answer, url));
            }
        }
    }

    /// What a read is repeated for.
    pub fn patient(&self, again: Again) -> Again {
        if self.spare { Again::Never } else { again }
    }

    /// Once, but for a token that has run out.
    async fn signed(&self, reached: &Reached, ask: &Ask<'_>, url: &Uri, payload: Payload) -> Result<Answer> {
        let ours = self.is_ours(url);
        let again = payload.again();
        let authorization = if ours { self.signature(reached, ask, url).await? } else { None };
        let answer = self.one(reached, ask, url, authorization.clone(), payload).await?;
        let signed_in = authorization.is_some();
        let answer = match again {
            Some(again) if ours && answer.status == StatusCode::UNAUTHORIZED => {
                // The token has run out, or this place asks for one only now.
                let Some(fresh) = self.renewed(reached, ask, url, &answer, signed_in).await? else {
                    return Ok(answer);
                };
                self.one(reached, ask, url, Some(fresh), again).await?
            }
            None if ours && answer.status == StatusCode::UNAUTHORIZED => {
                self.tokens.lock().remove(ask.scope);
                answer
            }
            _ => answer,
        };
        self.follow(reached, ask, url.clone(), answer).await
    }

    /// What to sign in with, or whose fault it is that there is nothing.
    async fn signature(&self, reached: &Reached, ask: &Ask<'_>, url: &Uri) -> Result<Option<HeaderValue>> {
        let signature = self.authorization(reached, ask.scope).await;
        signature.map_err(|error| error.context(format!("{} \"{url}\"", go_method(&ask.method))))
    }

    /// A refused token is asked for once more; wrong credentials are not.
    async fn renewed(
        &self,
        reached: &Reached,
        ask: &Ask<'_>,
        url: &Uri,
        answer: &Answer,
        signed_in: bool,
    ) -> Result<Option<HeaderValue>> {
        let Some(challenge) = challenge::of(&answer.headers) else { return Ok(None) };
        match &challenge {
            Challenge::Basic if signed_in => return Ok(None),
            Challenge::Bearer { realm, .. } if realm.is_empty() => return Ok(None),
            _ => {}
        }
        *reached.challenge.lock() = Some(challenge);
        self.tokens.lock().remove(ask.scope);
        self.signature(reached, ask, url).await
    }

    async fn one(
        &self,
        reached: &Reached,
        ask: &Ask<'_>,
        url: &Uri,
        authorization: Option<HeaderValue>,
        payload: Payload,
    ) -> Result<Answer> {
        let client = self.client_for(reached, url).await?;
        let mut question = Question::new(ask.method.clone(), url.clone());
        question.headers = ask.headers.clone();
        if self.is_ours(url) {
            question.headers.extend(self.place.headers.clone());
        }
        question.payload = payload;
        question.patience = ask.patience;
        client.ask(question.with(header::AUTHORIZATION, authorization)).await
    }

    async fn follow(&self, reached: &Reached, ask: &Ask<'_>, mut url: Uri, mut answer: Answer) -> Result<Answer> {
        for _ in 0..MAX_REDIRECTS {
            let read = matches!(ask.method, Method::GET | Method::HEAD);
            if !read || !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.header(header::LOCATION).unwrap_or_default().to_owned();
            // Its connection is free again when the little there is has been read.
            let _ = answer.body.whole(1 << 16).await;
            url = resolve(&url, &location)?;
            let authorization = if self.is_ours(&url) { self.authorization(reached, ask.scope).await? } else { None };
            answer = self.one(reached, ask, &url, authorization, Payload::None).await?;
        }
        Err(Error::system(format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    /// A host that need not be the registry's: it is verified like any other, and never by plain HTTP where the
    /// registry itself was verified.
    async fn client_for(&self, reached: &Reached, url: &Uri) -> Result<Arc<Client>> {
        let (scheme, authority) = (url.scheme_str().unwrap_or_default(), authority_of(url)?);
        if scheme == reached.scheme && authority == self.place.authority {
            return Ok(reached.client.clone());
        }
        let key = format!("{scheme}://{authority}");
        if let Some(known) = self.others.lock().get(&key) {
            return Ok(known.clone());
        }
        let mut host = Host::find(authority, &self.config).await?;
        host.insecure &= reached.scheme == "http" || reached.client.host.insecure;
        let tls = match scheme {
            "https" => Some(login::trust(&host, &self.config).await?),
            "http" if reached.scheme == "http" || host.insecure => None,
            _ => return Err(Error::system(format!("the registry leads to {key}, which is not https"))),
        };
        let client = Arc::new(Client::new(host, tls, self.config.proxies.clone()));
        self.others.lock().insert(key, client.clone());
        Ok(client)
    }

    fn is_ours(&self, url: &Uri) -> bool {
        url.authority().is_some_and(|authority| authority.as_str() == self.place.authority)
    }

    fn url(&self, reached: &Reached, target: &Target) -> Result<Uri> {
        match target {
            Target::Url(url) => Ok(url.clone()),
            Target::Path(path) => {
                let text = format!("{}://{}{}{path}", reached.scheme, self.place.authority, self.place.prefix);
                let url = text.parse().map_err(|error| Error::invalid(format!("{text}: {error}")))?;
                match &self.place.stands_for {
                    Some(registry) => with_query(&url, &[("ns", registry)]),
                    None => Ok(url),
                }
            }
        }
    }

    /// HTTPS first; plain HTTP only for an insecure registry that HTTPS did not reach.
    async fn reached(&self, again: Again) -> Result<&Reached> {
        self.reached.get_or_try_init(|| self.reach(again)).await
    }

    async fn reach(&self, again: Again) -> Result<Reached> {
        let host = Host::find(&self.place.authority, &self.config).await?;
        match self.place.scheme {
            Some("http") => return self.contact(&host, "http", again).await,
            Some(_) => return self.contact(&host, "https", again).await,
            None => {}
        }
        match self.contact(&host, "https", again).await {
            Err(error) if host.insecure && error.kind() == ErrorKind::System => {
                tracing::debug!(registry = host.authority, %error, "not reached by HTTPS, trying plain HTTP");
                self.contact(&host, "http", again).await
            }
            done => done,
        }
    }

    async fn contact(&self, host: &Host, scheme: &'static str, again: Again) -> Result<Reached> {
        let tls = match (scheme, &self.place.tls) {
            ("http", _) => None,
            (_, Some(tls)) => Some(tls.clone()),
            (_, None) => Some(login::trust(host, &self.config).await?),
        };
        let client = Arc::new(Client::new(host.clone(), tls, self.config.proxies.clone()));
        let url = format!("{scheme}://{}{}/", self.place.authority, self.place.prefix);
        let url: Uri = url.parse().map_err(|error| Error::invalid(format!("{url}: {error}")))?;
        let mut tries = Tries::new(self.patient(again), &self.config);
        let answer = loop {
            let mut question = Question::new(Method::GET, url.clone());
            question.headers = self.place.headers.clone();
            if let Some(answer) = tries.outlasted(client.ask(question).await?).await {
                break answer;
            }
        };
        let challenge = challenge::of(&answer.headers).filter(|_| answer.status == StatusCode::UNAUTHORIZED);
        if answer.status.is_server_error() {
            return Err(Refusal::read(answer).await.error());
        }
        let _ = answer.body.whole(1 << 16).await;
        Ok(Reached { client, scheme, challenge: Mutex::new(challenge) })
    }

    async fn authorization(&self, reached: &Reached, scope: &str) -> Result<Option<HeaderValue>> {
        let nobody = RegistryAuth::default();
        let auth = self.auth.as_ref().unwrap_or(&nobody);
        if !auth.registry_token.is_empty() {
            return login::secret(format!("Bearer {}", auth.registry_token)).map(Some);
        }
        let challenge = reached.challenge.lock().clone();
        let Some(challenge) = challenge else { return Ok(None) };
        let Challenge::Bearer { realm, service, scope: theirs } = &challenge else {
            let basic = login::basic(auth)?;
            return match basic {
                Some(basic) => Ok(Some(basic)),
                None => Err(Error::new(ErrorKind::Unauthorized, "no basic auth credentials")),
            };
        };
        if let Some(token) = self.tokens.lock().get(scope) {
            return Ok(Some(token.clone()));
        }
        let scope_wanted = match theirs.split_whitespace().all(|one| scope.split_whitespace().any(|ours| ours == one)) {
            true => scope.to_owned(),
            false => format!("{scope} {theirs}"),
        };
        let wanted = token::Wanted {
            realm,
            service,
            scope: &scope_wanted,
            registry: &reached.client.host,
            config: &self.config,
            offline: false,
            again: self.patient(Again::Broken),
        };
        let token = login::secret(format!("Bearer {}", wanted.fetch(auth).await?.token))?;
        self.tokens.lock().insert(scope.to_owned(), token.clone());
        Ok(Some(token))
    }
}

fn authority_of(url: &Uri) -> Result<&str> {
    match url.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(authority.as_str()),
        _ => Err(Error::system(format!("the registry gave a URL without a host: {url}"))),
    }
}

/// A `Location`: a whole URL, or one that stands on the request's own.
pub(crate) fn resolve(base: &Uri, location: &str) -> Result<Uri> {
    let (scheme, authority) = (base.scheme_str().unwrap_or("https"), authority_of(base)?);
    let path = base.path();
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() {
        return Err(Error::system("the registry sent no Location"));
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let url: Uri =
        text.parse().map_err(|error| Error::system(format!("the registry sent a wrong Location: {error}")))?;
    authority_of(&url)?;
    Ok(url)
}

/// The URL with more in its query.
pub(crate) fn with_query(url: &Uri, fields: &[(&str, &str)]) -> Result<Uri> {
    let wrong = |error: String| Error::system(format!("URL of the registry: {error}"));
    let query = serde_html_form::to_string(fields).map_err(|error| wrong(error.to_string()))?;
    let joint = if url.query().is_some() { '&' } else { '?' };
    format!("{url}{joint}{query}").parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))
}

/// Whether an answer is as hoped; else what the registry says.
pub(crate) async fn expect(answer: Answer, statuses: &[StatusCode]) -> Result<Answer, Refusal> {
    if statuses.contains(&answer.status) { Ok(answer) } else { Err(Refusal::read(answer).await) }
}

/// A small document, whole.
pub(crate) async fn whole(answer: Answer) -> Result<Bytes> {
    answer.body.whole(crate::client::MAX_BODY).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_location_is_whole_or_stands_on_the_request() {
        let base: Uri = "https://reg.example:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        for (location, whole) in [
            ("https://other/x?y", "https://other/x?y"),
            ("//other/x", "https://other/x"),
            ("/v2/a/blobs/uploads/1", "https://reg.example:5000/v2/a/blobs/uploads/1"),
            ("1?s=2", "https://reg.example:5000/v2/a/blobs/uploads/1?s=2"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), whole);
        }
        for wrong in ["", "https://", "http://user:secret@host/", "https://a b/"] {
            assert!(resolve(&base, wrong).is_err(), "{wrong}");
        }
    }
}
