//! `POST /images/load`.

use futures::StreamExt as _;
use gantry_domain::{
    Result,
    platform::Platform,
    ports::{BoxStream, ByteStream, LoadProgress},
    reference::Reference,
};

use super::{LoadMessage, catalog, tag::publish};
use crate::Engine;

impl Engine {
    /// The work goes on while the stream is read, and stops where the client leaves; what is whole by then stays.
    pub async fn image_load(
        &self,
        archive: ByteStream,
        platforms: Vec<Platform>,
    ) -> Result<BoxStream<Result<LoadMessage>>> {
        let progress = self.parts.ports.images.load(archive, platforms).await?;
        let parts = self.parts.clone();
        let messages = progress.map(move |item| {
            item.map(|item| match item {
                LoadProgress::Layer { id, current, total } => LoadMessage::Layer { id, current, total },
                LoadProgress::Loaded { name, target } => {
                    parts.catalog.forget();
                    let name = name.filter(|name| !catalog::is_dangling(name));
                    let shown = name.map(|name| Reference::parse(&name).map_or(name, |reference| reference.familiar()));
                    publish(&parts, "load", target.digest.as_str(), shown.as_deref().unwrap_or(target.digest.as_str()));
                    match shown {
                        Some(name) => LoadMessage::LoadedName(name),
                        None => LoadMessage::LoadedId(target.digest.to_string()),
                    }
                }
            })
        });
        Ok(Box::pin(messages))
    }
}
