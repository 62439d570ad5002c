//! `DELETE /images/{name}`: untag, and delete when the last name goes; with Docker's conflicts.

use gantry_domain::{
    ContainerId, Error, Result,
    image::{Descriptor, NamedImage},
    reference::Reference,
};

use super::{ImageDeleted, catalog, tag::publish};
use crate::{
    Engine,
    parts::{Parts, detached},
};

impl Engine {
    /// `noprune` is taken and has no effect: parents are no images of their own in this store.
    pub async fn image_delete(&self, name: &str, force: bool, _noprune: bool) -> Result<Vec<ImageDeleted>> {
        let (parts, typed) = (self.parts.clone(), name.to_owned());
        detached(async move { delete(&parts, &typed, force).await }).await
    }
}

async fn delete(parts: &Parts, typed: &str, force: bool) -> Result<Vec<ImageDeleted>> {
    let target = parts.catalog.resolve(typed).await?;
    let all = parts.catalog.names().await?;
    let names: Vec<&NamedImage> = all.iter().filter(|named| named.target.digest == target.digest).collect();
    let real = || names.iter().filter(|named| !catalog::is_dangling(&named.name));
    match named(&names, typed) {
        Some(name) if real().count() > 1 => {
            remove_names(parts, &[name], false).await?;
            Ok(vec![ImageDeleted::Untagged(familiar(&name.name))])
        }
        Some(name) => {
            check_users(parts, &target, &familiar(&name.name), force, true)?;
            delete_all(parts, &target, &names).await
        }
        None => {
            let repositories: std::collections::BTreeSet<String> =
                real().map(|named| repository(&named.name)).collect();
            if !force && repositories.len() > 1 {
                return Err(conflict(
                    &shown(typed, &target),
                    "must be forced",
                    "image is referenced in multiple repositories",
                ));
            }
            check_users(parts, &target, &shown(typed, &target), force, false)?;
            delete_all(parts, &target, &names).await
        }
    }
}

/// The name that was typed, where a name and not an id was typed.
fn named<'a>(names: &[&'a NamedImage], typed: &str) -> Option<&'a NamedImage> {
    let reference = Reference::parse(typed).ok()?;
    // A digest says all; the name is there when the image was pulled by it.
    let canonical = match reference.digest {
        Some(_) => Reference { tag: None, ..reference }.canonical(),
        None => reference.with_default_tag().canonical(),
    };
    names.iter().find(|named| named.name == canonical).copied()
}

fn check_users(parts: &Parts, target: &Descriptor, shown: &str, force: bool, by_name: bool) -> Result<()> {
    let users = parts.claims.lock().image_users(&target.digest);
    let running = |id: &ContainerId| {
        let containers = parts.containers.read();
        containers.get(id).is_some_and(|handle| handle.snapshot().status.is_running())
    };
    // By its last name dockerd refuses first for any container, and knows of the running ones only when forced.
    if let Some(user) = users.first().filter(|_| !force && by_name) {
        let why = format!("container {} is using its referenced image {}", user.short(), target.digest.short());
        return Err(conflict(shown, "must be forced", &why));
    }
    if let Some(user) = users.iter().find(|id| running(id)) {
        let why = format!("image is being used by running container {}", user.short());
        return Err(conflict(shown, "cannot be forced", &why));
    }
    match users.first() {
        Some(user) if !force => Err(conflict(
            shown,
            "must be forced",
            &format!("image is being used by stopped container {}", user.short()),
        )),
        _ => Ok(()),
    }
}

fn conflict(shown: &str, force: &str, why: &str) -> Error {
    Error::conflict(format!("conflict: unable to delete {shown} ({force}) - {why}"))
}

fn shown(typed: &str, target: &Descriptor) -> String {
    if typed.contains("sha256:") || target.digest.hex().starts_with(typed) {
        target.digest.short().to_owned()
    } else {
        typed.to_owned()
    }
}

async fn delete_all(parts: &Parts, target: &Descriptor, names: &[&NamedImage]) -> Result<Vec<ImageDeleted>> {
    remove_names(parts, names, true).await?;
    let mut deleted: Vec<ImageDeleted> = names
        .iter()
        .filter(|named| !catalog::is_dangling(&named.name))
        .map(|named| ImageDeleted::Untagged(familiar(&named.name)))
        .collect();
    deleted.push(ImageDeleted::Deleted(target.digest.to_string()));
    publish(parts, "delete", target.digest.as_str(), target.digest.as_str());
    Ok(deleted)
}

/// The last one removed frees what nobody uses any more.
async fn remove_names(parts: &Parts, names: &[&NamedImage], collect: bool) -> Result<()> {
    for (index, named) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        parts.ports.images.remove_name(&named.name, collect && last).await?;
        parts.catalog.forget();
        if !catalog::is_dangling(&named.name) {
            publish(parts, "untag", named.target.digest.as_str(), &familiar(&named.name));
        }
    }
    Ok(())
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn repository(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar_name())
}

/// Deletes an image by its id for a prune: the rules are the same, conflicts are skipped by the caller.
pub(crate) async fn prune_one(parts: &Parts, id: &str) -> Result<Vec<ImageDeleted>> {
    delete(parts, id, false).await
}
