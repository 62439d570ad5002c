//! `POST /images/load`.

use futures::StreamExt as _;
use gantry_domain::{
    Result,
    image::Descriptor,
    platform::Platform,
    ports::{BoxStream, ByteStream, LoadProgress},
    reference::Reference,
};

use super::{LoadMessage, catalog, tag::publish_labelled};
use crate::{Engine, parts::Parts};

impl Engine {
    /// The work goes on while the stream is read, and stops where the client leaves; what is whole by then stays.
    pub async fn image_load(
        &self,
        archive: ByteStream,
        platforms: Vec<Platform>,
    ) -> Result<BoxStream<Result<LoadMessage>>> {
        let progress = self.parts.ports.images.load(archive, platforms).await?;
        let parts = self.parts.clone();
        let messages = progress.then(move |item| {
            let parts = parts.clone();
            async move {
                Ok(match item? {
                    LoadProgress::Layer { id, current, total } => LoadMessage::Layer { id, current, total },
                    LoadProgress::Loaded { name, target } => loaded(&parts, name, &target).await,
                })
            }
        });
        Ok(Box::pin(messages))
    }
}

async fn loaded(parts: &Parts, name: Option<String>, target: &Descriptor) -> LoadMessage {
    parts.catalog.forget();
    let name = name.filter(|name| !catalog::is_dangling(name));
    let shown = name.map(|name| Reference::parse(&name).map_or(name, |reference| reference.familiar()));
    let id = target.digest.as_str();
    publish_labelled(parts, "load", id, id, target).await;
    match shown {
        Some(name) => LoadMessage::LoadedName(name),
        None => LoadMessage::LoadedId(target.digest.to_string()),
    }
}
