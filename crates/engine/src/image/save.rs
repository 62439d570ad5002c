//! `GET /images/get` and `GET /images/{name}/get`.

use gantry_domain::{Error, Result, image::Descriptor, platform::Platform, ports::ByteStream, reference::Reference};

use super::{catalog, tag::publish_labelled};
use crate::Engine;

impl Engine {
    /// Several images in one archive; a repository without tag stands for all its tags, an id for the image untagged.
    pub async fn image_get(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<ByteStream> {
        if names.is_empty() {
            return Err(Error::invalid("no image names to save"));
        }
        let mut chosen: Vec<(Option<String>, Descriptor)> = Vec::new();
        for typed in &names {
            chosen.extend(self.to_save(typed).await?);
        }
        for (name, target) in &chosen {
            let id = target.digest.as_str();
            publish_labelled(&self.parts, "save", id, name.as_deref().unwrap_or(id), target).await;
        }
        self.parts.ports.images.save(chosen, platforms).await
    }

    async fn to_save(&self, typed: &str) -> Result<Vec<(Option<String>, Descriptor)>> {
        let names = self.parts.catalog.names().await?;
        if let Ok(reference) = Reference::parse(typed)
            && reference.tag.is_none()
            && reference.digest.is_none()
        {
            let repository = reference.familiar_name();
            let all: Vec<_> = names
                .iter()
                .filter(|named| !catalog::is_dangling(&named.name))
                .filter(|named| Reference::parse(&named.name).is_ok_and(|known| known.familiar_name() == repository))
                .map(|named| (Some(named.name.clone()), named.target.clone()))
                .collect();
            if !all.is_empty() {
                return Ok(all);
            }
        }
        let target = self.parts.catalog.resolve(typed).await?;
        let name = Reference::parse(typed)
            .ok()
            .filter(|reference| reference.digest.is_none())
            .map(|reference| reference.with_default_tag().canonical())
            .filter(|canonical| names.iter().any(|named| named.name == *canonical));
        Ok(vec![(name, target)])
    }
}
