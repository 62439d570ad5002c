//! `POST /images/{name}/push`.

use futures::{StreamExt as _, stream};
use gantry_domain::{
    Result,
    ports::{BoxStream, PushProgress, PushRequest},
    reference::Reference,
};

use super::{ImagePush, PushMessage, tag::publish_labelled};
use crate::Engine;

impl Engine {
    /// A name that is not here is the call's own error; what the registry says comes in the stream.
    pub async fn image_push(&self, request: ImagePush) -> Result<BoxStream<Result<PushMessage>>> {
        let mut reference = Reference::parse(&request.name)?;
        if !request.tag.is_empty() {
            reference = Reference::parse(&format!("{}/{}:{}", reference.domain, reference.path, request.tag))?;
        }
        let repository = format!("{}/{}", reference.domain, reference.path);
        let push = PushRequest { reference, platform: request.platform, auth: request.auth };
        let progress = self.parts.ports.images.push(push).await?;
        let parts = self.parts.clone();
        let messages = progress.then(move |item| {
            let parts = parts.clone();
            async move {
                Ok(match item? {
                    PushProgress::Layer { id, step } => PushMessage::Layer { id, step },
                    PushProgress::Instead { index, manifest } => PushMessage::Instead { index, manifest },
                    PushProgress::Missing { target } => PushMessage::Missing { target },
                    PushProgress::Pushed { reference, target } => {
                        let (name, repository) = (reference.familiar(), reference.familiar_name());
                        publish_labelled(&parts, "push", &name, &repository, &target).await;
                        let tag = reference.tag.unwrap_or_default();
                        PushMessage::Pushed { tag, digest: target.digest, size: target.size }
                    }
                })
            }
        });
        Ok(Box::pin(stream::iter([Ok(PushMessage::Begun { repository })]).chain(messages)))
    }
}
