//! `POST /images/create?fromImage=`.

use futures::{StreamExt as _, stream};
use gantry_domain::{
    Digest, Error, ErrorKind, Result,
    ports::{BoxStream, PullProgress, PullRequest},
    reference::Reference,
};

use super::{ImagePull, PullMessage, tag::publish_labelled};
use crate::Engine;

/// A name that no registry has.
const SCRATCH: &str = "scratch";

impl Engine {
    /// An error before the first byte is the call's own. The work stops where the stream is dropped; blobs that have
    /// come by then are kept for the next pull.
    pub async fn image_pull(&self, request: ImagePull) -> Result<BoxStream<Result<PullMessage>>> {
        let reference = wanted(&request.image, &request.tag)?;
        let shown = reference.familiar();
        let repository = reference.path.clone();
        let all_tags = reference.tag.is_none() && reference.digest.is_none();
        let pull = PullRequest { reference, platform: request.platform, auth: request.auth };
        let progress = self.parts.ports.images.pull(pull).await.map_err(as_unclassed)?;
        let parts = self.parts.clone();
        let messages = progress.then(move |item| {
            let mut pulled = None;
            let messages = match item {
                Ok(PullProgress::Begun { tag }) => {
                    vec![Ok(PullMessage::Begun { repository: repository.clone(), tag })]
                }
                Ok(PullProgress::Layer { id, step }) => vec![Ok(PullMessage::Layer { id, step })],
                Ok(PullProgress::Pulled { reference, target, newer }) => {
                    parts.catalog.forget();
                    let digest = target.digest.clone();
                    // Each of all tags has a line of its own.
                    let shown = if all_tags { reference.familiar() } else { shown.clone() };
                    pulled = Some((parts.clone(), reference, target));
                    vec![Ok(PullMessage::Digest(digest)), Ok(PullMessage::Done { shown, newer })]
                }
                Err(error) => vec![Err(error)],
            };
            async move {
                if let Some((parts, reference, target)) = pulled {
                    let (name, repository) = (reference.familiar(), reference.familiar_name());
                    publish_labelled(&parts, "pull", &name, &repository, &target).await;
                }
                stream::iter(messages)
            }
        });
        Ok(Box::pin(messages.flatten()))
    }
}

/// dockerd answers 500 where a registry wants credentials: at a 401 the client would ask for a password by itself.
fn as_unclassed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::Forbidden => error.with_kind(ErrorKind::System),
        _ => error,
    }
}

/// As dockerd puts name and tag together.
fn wanted(image: &str, tag: &str) -> Result<Reference> {
    let image = image.strip_suffix(':').unwrap_or(image);
    let mut reference = Reference::parse(image)?;
    if reference.familiar_name() == SCRATCH {
        return Err(Error::forbidden("'scratch' is a reserved name"));
    }
    if tag.is_empty() {
        return Ok(reference);
    }
    (reference.tag, reference.digest) = (None, None);
    if tag.contains(':') {
        reference.digest = Some(Digest::parse(tag)?);
        return Ok(reference);
    }
    Reference::parse(&format!("{}:{tag}", reference.canonical()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn name_and_tag_are_put_together_as_in_docker() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, tag, whole) in [
            ("busybox", "latest", "busybox:latest"),
            ("busybox", "", "busybox"),
            ("busybox:", "", "busybox"),
            ("busybox:1", "", "busybox:1"),
            ("busybox:1", "2", "busybox:2"),
            ("localhost:5000/a", "b", "localhost:5000/a:b"),
            ("busybox", &digest, &format!("busybox@{digest}")),
            (&format!("busybox@{digest}"), "", &format!("busybox@{digest}")),
        ] {
            assert_eq!(wanted(image, tag).unwrap().familiar(), whole, "{image} {tag}");
        }
        assert_eq!(wanted("scratch", "latest").unwrap_err().message(), "'scratch' is a reserved name");
        for (image, tag) in [("Busybox", ""), ("busybox", "a b"), ("busybox", "sha256:x"), ("", "latest")] {
            assert!(wanted(image, tag).is_err(), "{image} {tag}");
        }
    }
}
