//! How a container is found by what a client typed.

use crate::{ContainerId, Result};

/// Docker's order: full id, exact name (with or without `/`), unique id prefix.
/// `NotFound` `No such container: x`; ambiguous is `InvalidParameter` `multiple IDs found with provided prefix: x`.
pub fn resolve<'a>(
    _typed: &str,
    _containers: impl Iterator<Item = (&'a ContainerId, &'a str)>,
) -> Result<&'a ContainerId> {
    todo!()
}
