//! Tokens: a registry's realm exchanges credentials for one (the Docker token specification).

use bytes::Bytes;
use gantry_domain::{Error, Result, registry::RegistryAuth};
use http::{HeaderValue, Method, StatusCode, Uri, header, uri::Scheme};
use serde::Deserialize;

use crate::{
    address::Host,
    again::{Again, Tries},
    client::{Answer, Client, MAX_BODY, Payload, Question, status_text},
    config::RegistryConfig,
    login,
    refusal::Refusal,
};

/// What dockerd calls itself towards token servers; some tell clients apart by it.
const CLIENT: &str = "docker";

/// What the challenge asks for.
pub(crate) struct Wanted<'a> {
    pub realm: &'a str,
    pub service: &'a str,
    pub scope: &'a str,
    pub registry: &'a Host,
    pub config: &'a RegistryConfig,
    /// A login wants a token that outlives it.
    pub offline: bool,
    /// What a busy server is asked again for.
    pub again: Again,
}

pub(crate) struct Granted {
    pub token: String,
    /// Stands for the credentials from now on; the one that was sent when no new one came.
    pub identity_token: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenBody {
    token: String,
    access_token: String,
    refresh_token: String,
}

impl Wanted<'_> {
    pub async fn fetch(&self, auth: &RegistryAuth) -> Result<Granted> {
        let realm = self.realm_url()?;
        let authority = realm.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let mut host = Host::find(authority, self.config).await?;
        // A registry that must prove who it is may not send credentials to a realm that need not.
        host.insecure &= self.registry.insecure;
        let tls = match realm.scheme() == Some(&Scheme::HTTPS) {
            true => Some(login::trust(&host, self.config).await?),
            false if host.insecure => None,
            false => return Err(Error::system(format!("the registry's token realm {} is not https", self.realm))),
        };
        let client = Client::new(host, tls, self.config.proxies.clone());
        let mut tries = Tries::new(self.again, self.config);
        loop {
            let answer = client.ask(self.question(&realm, auth)?).await?;
            if let Some(answer) = tries.outlasted(answer).await {
                return granted(answer, auth).await;
            }
        }
    }

    fn question(&self, realm: &Uri, auth: &RegistryAuth) -> Result<Question> {
        if auth.identity_token.is_empty() {
            let question = Question::new(Method::GET, self.with_query(realm, auth)?);
            return Ok(question.with(header::AUTHORIZATION, login::basic(auth)?));
        }
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut question = Question::new(Method::POST, realm.clone()).with(header::CONTENT_TYPE, Some(kind));
        question.payload = Payload::Bytes(Bytes::from(self.form(auth)?));
        Ok(question)
    }

    /// The realm comes from outside: an absolute URL of a host, without credentials of its own.
    fn realm_url(&self) -> Result<Uri> {
        let parsed = self.realm.parse::<Uri>().ok().filter(|url| {
            let scheme = matches!(url.scheme_str(), Some("https" | "http"));
            let named = url.authority().is_some_and(|one| !one.as_str().contains('@') && !one.host().is_empty());
            scheme && named
        });
        parsed.ok_or_else(|| Error::system(format!("invalid token auth challenge realm: {:?}", self.realm)))
    }

    fn with_query(&self, realm: &Uri, auth: &RegistryAuth) -> Result<Uri> {
        let mut fields = vec![("client_id", CLIENT)];
        if self.offline {
            fields.push(("offline_token", "true"));
        }
        fields.extend([("service", self.service), ("account", &auth.username)].iter().filter(|one| !one.1.is_empty()));
        fields.extend(self.scope.split_whitespace().map(|scope| ("scope", scope)));
        let query = encode(&fields)?;
        let joint = if realm.query().is_some() { '&' } else { '?' };
        format!("{realm}{joint}{query}").parse().map_err(|error| Error::system(format!("token realm: {error}")))
    }

    fn form(&self, auth: &RegistryAuth) -> Result<String> {
        encode(&[
            ("grant_type", "refresh_token"),
            ("service", self.service),
            ("client_id", CLIENT),
            ("refresh_token", &auth.identity_token),
            ("scope", self.scope),
        ])
    }
}

fn encode(fields: &[(&str, &str)]) -> Result<String> {
    serde_html_form::to_string(fields).map_err(|error| Error::system(format!("token request: {error}")))
}

async fn granted(answer: Answer, auth: &RegistryAuth) -> Result<Granted> {
    let status = answer.status;
    let body = answer.body.whole(MAX_BODY).await?;
    if status != StatusCode::OK {
        return Err(Error::new(login::refusal(status), refusal_text(status, &body)));
    }
    let body: TokenBody = serde_json::from_slice(&body)
        .map_err(|error| Error::system(format!("unable to decode token response: {error}")))?;
    let token = if body.access_token.is_empty() { body.token } else { body.access_token };
    if token.is_empty() {
        return Err(Error::system("authorization server did not include a token in the response"));
    }
    let identity_token = if body.refresh_token.is_empty() { auth.identity_token.clone() } else { body.refresh_token };
    Ok(Granted { token, identity_token })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DetailsBody {
    details: String,
}

/// `unauthorized: incorrect username or password`: Docker Hub's `details`, or the specification's `errors`.
fn refusal_text(status: StatusCode, body: &[u8]) -> String {
    let class = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "denied",
        StatusCode::TOO_MANY_REQUESTS => "toomanyrequests",
        _ => "unknown",
    };
    let found: DetailsBody = serde_json::from_slice(body).unwrap_or_default();
    if !found.details.is_empty() {
        return format!("{class}: {}", found.details);
    }
    match Refusal::listed(body) {
        Some(refusal) => refusal.text,
        None if status.is_client_error() && class != "unknown" => format!("{class}: authentication required"),
        None => format!("received unexpected HTTP status: {}", status_text(status)),
    }
}
