//! Which names go together when one of them is removed.

use gantry_domain::{image::NamedImage, reference::Reference};

use super::catalog;

/// What was meant by the text that was typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Meant<'a> {
    /// The image itself, by its id or the beginning of it.
    Id,
    /// A name in the store.
    Name(&'a NamedImage),
    /// `name@digest` of an image that was not pulled by its digest: all tags of the repository.
    Digest(Reference),
}

impl Meant<'_> {
    /// `names` are all of one image, which the text leads to.
    pub fn of<'a>(typed: &str, names: &[&'a NamedImage]) -> Meant<'a> {
        let is_id = |named: &&NamedImage| {
            let digest = &named.target.digest;
            digest.as_str().starts_with(typed) || digest.hex().starts_with(typed)
        };
        let Ok(reference) = Reference::parse(typed) else { return Meant::Id };
        // A digest says all; the name is there when the image was pulled by it.
        let reference = match reference.digest {
            Some(_) => Reference { tag: None, ..reference },
            None => reference.with_default_tag(),
        };
        match names.iter().find(|named| named.name == reference.canonical()) {
            Some(named) => Meant::Name(named),
            None if names.iter().any(is_id) => Meant::Id,
            None => Meant::Digest(reference),
        }
    }

    pub fn reference(&self) -> Option<Reference> {
        match self {
            Self::Id => None,
            Self::Name(named) => Reference::parse(&named.name).ok(),
            Self::Digest(reference) => Some(reference.clone()),
        }
    }
}

/// The names that mean the same as `wanted` (without one: as the first name there is), as dockerd sees it: a digest
/// stands for every tag of its repository, and goes with the repository's last tag; a nameless image's mark goes with any.
pub fn same_as<'a>(wanted: Option<Reference>, names: &[&'a NamedImage]) -> Vec<&'a NamedImage> {
    let parsed = |named: &NamedImage| Reference::parse(&named.name).ok().filter(|_| !catalog::is_dangling(&named.name));
    let Some(wanted) = wanted.or_else(|| names.iter().find_map(|named| parsed(named))) else { return names.to_vec() };
    let here = |known: &Reference| known.domain == wanted.domain && known.path == wanted.path;
    let is_other_tag = |known: &Reference| known.tag.is_some() && known.tag != wanted.tag;
    let others = names.iter().filter_map(|named| parsed(named)).any(|known| here(&known) && is_other_tag(&known));
    let is_same = |named: &&&NamedImage| match parsed(named) {
        None => true,
        Some(known) if !here(&known) => false,
        Some(_) if wanted.digest.is_some() => true,
        Some(known) => known.tag == wanted.tag || known.tag.is_none() && !others,
    };
    names.iter().filter(is_same).copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::{Digest, GoTime, image::Descriptor};

    use super::*;

    fn digest() -> Digest {
        Digest::from_sha256(&[0xab; 32])
    }

    fn named(names: &[&str]) -> Vec<NamedImage> {
        let target = Descriptor {
            media_type: "m".into(),
            digest: digest(),
            size: 1,
            urls: None,
            annotations: None,
            platform: None,
        };
        let named = |name: &&str| NamedImage {
            name: name.replace("DIGEST", digest().as_str()),
            target: target.clone(),
            created_at: GoTime::default(),
            updated_at: GoTime::default(),
        };
        names.iter().map(named).collect()
    }

    fn same(wanted: &str, names: &[&str]) -> Vec<String> {
        let all = named(names);
        let all: Vec<&NamedImage> = all.iter().collect();
        let wanted = Meant::of(&wanted.replace("DIGEST", digest().as_str()), &all).reference();
        let shown =
            |named: &NamedImage| named.name.replace(digest().as_str(), "DIGEST").replace("docker.io/library/", "");
        same_as(wanted, &all).into_iter().map(shown).collect()
    }

    const A: &str = "docker.io/library/x:1";
    const B: &str = "docker.io/library/x:2";
    const D: &str = "docker.io/library/x@DIGEST";
    const OTHER: &str = "docker.io/library/y:1";
    const MARK: &str = "gantry-dangling@DIGEST";

    #[test]
    fn a_digest_goes_with_the_last_tag_of_its_repository() {
        assert_eq!(same("x:1", &[A, D]), ["x:1", "x@DIGEST"]);
        assert_eq!(same("x:1", &[A, B, D]), ["x:1"]);
        assert_eq!(same("x:1", &[A, D, OTHER]), ["x:1", "x@DIGEST"]);
    }

    #[test]
    fn a_digest_stands_for_all_tags_of_its_repository() {
        assert_eq!(same("x@DIGEST", &[A, B, OTHER]), ["x:1", "x:2"]);
        assert_eq!(same("x@DIGEST", &[A, D, OTHER]), ["x:1", "x@DIGEST"]);
        assert!(same("z@DIGEST", &[A]).is_empty());
    }

    #[test]
    fn an_id_stands_for_the_first_name_and_what_goes_with_it() {
        assert_eq!(same("abab", &[A, D]), ["x:1", "x@DIGEST"]);
        assert_eq!(same("abab", &[A, B]), ["x:1"]);
        assert_eq!(same("abab", &[A, OTHER]), ["x:1"]);
        assert_eq!(same("abab", &[MARK]), [MARK]);
    }

    #[test]
    fn a_name_that_looks_like_an_id_is_a_name() {
        let all = named(&["docker.io/library/abab:latest", A]);
        let all: Vec<&NamedImage> = all.iter().collect();
        assert_eq!(Meant::of("abab", &all), Meant::Name(all[0]));
        assert_eq!(Meant::of("aba", &all), Meant::Id);
        assert_eq!(Meant::of(digest().as_str(), &all), Meant::Id);
    }
}
