//! `POST /images/{name}/tag`.

use std::collections::BTreeMap;

use gantry_domain::{
    Error, Result,
    event::{Event, EventType},
    image::Descriptor,
    reference::Reference,
};

use super::catalog;
use crate::{Engine, parts::Parts};

impl Engine {
    /// Points one more name to an image; a name that pointed elsewhere moves silently.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let wanted = new_reference(repo, tag)?;
        let target = self.parts.catalog.resolve(name).await?;
        point(&self.parts, &wanted.canonical(), &target).await?;
        publish_labelled(&self.parts, "tag", target.digest.as_str(), &wanted.familiar(), &target).await;
        Ok(())
    }
}

/// A name for an image: `repo` and `tag`, `latest` where there is none.
pub(crate) fn new_reference(repo: &str, tag: &str) -> Result<Reference> {
    let text = if tag.is_empty() { repo.to_owned() } else { format!("{repo}:{tag}") };
    let reference = Reference::parse(&text)?.with_default_tag();
    if reference.digest.is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if reference.familiar_name() == "sha256" {
        return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    Ok(reference)
}

/// Moves a name; an image that loses its last one stays, nameless.
pub(crate) async fn point(parts: &Parts, name: &str, target: &Descriptor) -> Result<()> {
    let names = parts.catalog.names().await?;
    if let Some(before) = names.iter().find(|named| named.name == name && named.target.digest != target.digest) {
        let has_other = names.iter().any(|named| named.target.digest == before.target.digest && named.name != name);
        if !has_other {
            parts.ports.images.set_name(&catalog::dangling_name(&before.target.digest), &before.target).await?;
        }
    }
    parts.ports.images.set_name(name, target).await?;
    let nameless = catalog::dangling_name(&target.digest);
    if names.iter().any(|named| named.name == nameless) {
        parts.ports.images.remove_name(&nameless, false).await?;
    }
    parts.catalog.forget();
    Ok(())
}

/// Of an image that is there: its event bears its labels too.
pub(crate) async fn publish_labelled(parts: &Parts, action: &str, actor: &str, name: &str, target: &Descriptor) {
    let mut attributes = labels(parts, target).await;
    attributes.insert("name".to_owned(), name.to_owned());
    publish_with(parts, action, actor, attributes);
}

/// Of one whose labels may be gone.
pub(crate) fn publish(parts: &Parts, action: &str, actor: &str, name: &str) {
    publish_with(parts, action, actor, [("name".to_owned(), name.to_owned())].into());
}

fn publish_with(parts: &Parts, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
    parts.events.publish(Event {
        kind: EventType::Image,
        action: action.to_owned(),
        actor_id: actor.to_owned(),
        attributes,
        at: jiff::Timestamp::now(),
    });
}

async fn labels(parts: &Parts, target: &Descriptor) -> BTreeMap<String, String> {
    let here = match parts.ports.images.platforms(target).await {
        Ok(here) => here,
        Err(error) => {
            tracing::debug!(image = %target.digest, %error, "an event goes without the image's labels");
            return BTreeMap::new();
        }
    };
    catalog::choose(&here, None).and_then(|image| image.config.config.labels.clone()).unwrap_or_default()
}
