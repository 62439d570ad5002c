//! Reads what a plain URL leads to (`docker import https://…`), as any web client would: nothing is signed in to.

use futures::stream;
use gantry_domain::{Error, ErrorKind, Result, ports::Fetched};
use http::{Method, StatusCode, Uri, header};

use crate::{
    Registries,
    address::Host,
    client::{Answer, Client, LONG, Question},
    config::RegistryConfig,
    endpoint::resolve,
    login,
};

const MAX_REDIRECTS: usize = 10;
/// What is shown of an error page, bytes.
const MAX_TEXT: u64 = 64 << 10;

impl Registries {
    /// `InvalidParameter` for a URL that is none, `NotFound` for an unknown place, `System` for what else goes wrong.
    pub(crate) async fn fetch_url(&self, typed: &str) -> Result<Fetched> {
        let config = self.config();
        let mut url = parse(typed)?;
        for _ in 0..MAX_REDIRECTS {
            let answer = get(&url, &config).await?;
            if !answer.status.is_redirection() {
                return fetched(&url, answer).await;
            }
            let next = resolve(&url, answer.header(header::LOCATION).unwrap_or_default())?;
            if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(Error::system(format!("{url} leads to {next}, which is not https")));
            }
            url = next;
        }
        Err(Error::system(format!("Get \"{url}\": stopped after {MAX_REDIRECTS} redirects")))
    }
}

/// A URL without a scheme is HTTP's, as in dockerd.
fn parse(typed: &str) -> Result<Uri> {
    let text = match typed.split_once("://") {
        Some(("http" | "https", _)) => typed.to_owned(),
        Some((scheme, _)) => {
            return Err(Error::invalid(format!("Get \"{typed}\": unsupported protocol scheme \"{scheme}\"")));
        }
        None => format!("http://{typed}"),
    };
    let url: Uri = text.parse().map_err(|error| Error::invalid(format!("parse \"{typed}\": {error}")))?;
    match url.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(url),
        _ => Err(Error::invalid(format!("parse \"{typed}\": no host, or a name in front of it"))),
    }
}

async fn get(url: &Uri, config: &RegistryConfig) -> Result<Answer> {
    let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let mut host = Host::find(authority, config).await?;
    // What registries may do without is not for the web.
    host.insecure = false;
    let tls = if url.scheme_str() == Some("https") { Some(login::trust(&host, config).await?) } else { None };
    let client = Client::new(host, tls, config.proxies.clone());
    let mut question = Question::new(Method::GET, url.clone());
    question.patience = LONG;
    client.ask(question).await
}

async fn fetched(url: &Uri, answer: Answer) -> Result<Fetched> {
    if answer.status.is_client_error() || answer.status.is_server_error() {
        let kind = if answer.status == StatusCode::NOT_FOUND { ErrorKind::NotFound } else { ErrorKind::System };
        let status = answer.status_text();
        let page = answer.body.whole(MAX_TEXT).await.unwrap_or_default();
        let page = String::from_utf8_lossy(&page);
        return Err(Error::new(kind, format!("failed to GET {url} with status {status}: {}", page.trim())));
    }
    let length = answer.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let body =
        stream::try_unfold(answer.body, |mut body| async move { Ok(body.next().await?.map(|piece| (piece, body))) });
    Ok(Fetched { length, body: Box::pin(body) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_https_http_or_a_bare_host() {
        assert_eq!(parse("https://host/x?y=1").unwrap().to_string(), "https://host/x?y=1");
        assert_eq!(parse("host:80/x").unwrap().to_string(), "http://host:80/x");
        for wrong in ["", "file:///etc/passwd", "https://user:secret@host/", "http://", "a b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
