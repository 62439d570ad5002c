//! `DELETE /images/{name}`: untag, and delete when the last name goes; with Docker's conflicts.
//!
//! ```text
//! name ─┬─ other names stay ───────────────────► the name and what goes with it are untagged
//!       ├─ the last, a container uses it ──────► conflict; forced: the image stays without a name
//!       └─ the last, nobody uses it ───────────► deleted
//! id ───┬─ names that do not go together ──────► conflict, unless forced
//!       ├─ a container uses it ────────────────► conflict; forced: deleted unless the container runs
//!       └─ else ───────────────────────────────► deleted
//! ```

mod names;

use gantry_domain::{
    ContainerId, Digest, Error, Result,
    image::{Descriptor, NamedImage},
    platform::Platform,
    reference::Reference,
};

use self::names::Meant;
use super::{ImageDeleted, ImageRemoval, catalog, tag::publish};
use crate::{
    Engine,
    parts::{Parts, detached},
};

/// With Docker's dash.
const WANTS_FORCE: &str =
    "Content will be removed from all images referencing this variant. Use —-force to force delete.";

impl Engine {
    /// With platforms only their content goes, and every name stays.
    pub async fn image_delete(&self, name: &str, removal: ImageRemoval) -> Result<Vec<ImageDeleted>> {
        let (parts, typed) = (self.parts.clone(), name.to_owned());
        detached(async move {
            if removal.platforms.is_empty() {
                return delete(&parts, &typed, removal.force).await;
            }
            if !removal.force {
                return Err(Error::invalid(WANTS_FORCE));
            }
            delete_platforms(&parts, &typed, &removal.platforms).await
        })
        .await
    }
}

async fn delete(parts: &Parts, typed: &str, force: bool) -> Result<Vec<ImageDeleted>> {
    let target = parts.catalog.resolve(typed).await?;
    let all = parts.catalog.names().await?;
    let all: Vec<&NamedImage> = all.iter().filter(|named| named.target.digest == target.digest).collect();
    let meant = Meant::of(typed, &all);
    let same = names::same_as(meant.reference(), &all);
    let is_whole = same.len() == all.len();
    match meant {
        Meant::Digest(_) if same.is_empty() => return Err(catalog::no_such_image(typed)),
        Meant::Name(_) | Meant::Digest(_) if !is_whole => return untag(parts, &same).await,
        Meant::Name(named) => {
            let users = parts.claims.lock().image_users(&target.digest);
            if let Some(user) = users.first() {
                check_forced(named, user, force)?;
                return leave_nameless(parts, named, &all).await;
            }
        }
        Meant::Id | Meant::Digest(_) => check_users(parts, &target, force)?,
    }
    if !is_whole && !force {
        return Err(conflict(target.digest.short(), "must be forced", "image is referenced in multiple repositories"));
    }
    delete_all(parts, &target, &all).await
}

fn check_forced(named: &NamedImage, user: &ContainerId, force: bool) -> Result<()> {
    if force {
        return Ok(());
    }
    let why = format!("container {} is using its referenced image {}", user.short(), named.target.digest.short());
    Err(conflict(&familiar(&named.name), "must be forced", &why))
}

fn check_users(parts: &Parts, target: &Descriptor, force: bool) -> Result<()> {
    let users = parts.claims.lock().image_users(&target.digest);
    let running = |id: &ContainerId| {
        let containers = parts.containers.read();
        containers.get(id).is_some_and(|handle| handle.snapshot().status.is_running())
    };
    let used = |forced: &str, kind: &str, user: &ContainerId| {
        let why = format!("image is being used by {kind} container {}", user.short());
        Err(conflict(target.digest.short(), forced, &why))
    };
    if let Some(user) = users.iter().find(|id| running(id)) {
        return used("cannot be forced", "running", user);
    }
    match users.first() {
        Some(user) if !force => used("must be forced", "stopped", user),
        _ => Ok(()),
    }
}

fn conflict(shown: &str, force: &str, why: &str) -> Error {
    Error::conflict(format!("conflict: unable to delete {shown} ({force}) - {why}"))
}

/// The containers keep what they run on, and the image its content, for the day when they are gone.
async fn leave_nameless(parts: &Parts, named: &NamedImage, all: &[&NamedImage]) -> Result<Vec<ImageDeleted>> {
    if all.len() == 1 {
        parts.ports.images.set_name(&catalog::dangling_name(&named.target.digest), &named.target).await?;
    }
    untag(parts, &[named]).await
}

async fn untag(parts: &Parts, names: &[&NamedImage]) -> Result<Vec<ImageDeleted>> {
    remove_names(parts, names, false).await?;
    Ok(untagged(names))
}

fn untagged(names: &[&NamedImage]) -> Vec<ImageDeleted> {
    let real = names.iter().filter(|named| !catalog::is_dangling(&named.name));
    real.map(|named| ImageDeleted::Untagged(familiar(&named.name))).collect()
}

async fn delete_all(parts: &Parts, target: &Descriptor, names: &[&NamedImage]) -> Result<Vec<ImageDeleted>> {
    remove_names(parts, names, true).await?;
    let mut deleted = untagged(names);
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

/// Of an index; an image of one platform alone would be a name for nothing, and goes as a whole.
async fn delete_platforms(parts: &Parts, typed: &str, wanted: &[Platform]) -> Result<Vec<ImageDeleted>> {
    let target = parts.catalog.resolve(typed).await?;
    let mut deleted = Vec::new();
    for platform in wanted {
        let manifest = manifest_of(parts, typed, &target, platform).await?;
        if manifest == target.digest {
            return delete(parts, typed, true).await;
        }
        parts.ports.images.remove_manifest(&manifest).await?;
        parts.catalog.forget();
        deleted.push(ImageDeleted::Deleted(manifest.to_string()));
    }
    Ok(deleted)
}

async fn manifest_of(parts: &Parts, typed: &str, target: &Descriptor, platform: &Platform) -> Result<Digest> {
    let here = parts.ports.images.platforms(target).await?;
    let found = catalog::choose(&here, Some(platform)).map(|image| image.manifest.digest.clone());
    found.ok_or_else(|| {
        Error::not_found(format!(
            "failed to delete platform {platform} for image {}: image with reference {typed} was found but does not provide \
             the specified platform ({platform})",
            target.digest
        ))
    })
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Deletes an image by its id for a prune: the rules are the same, conflicts are skipped by the caller.
pub(crate) async fn prune_one(parts: &Parts, id: &str) -> Result<Vec<ImageDeleted>> {
    delete(parts, id, false).await
}
