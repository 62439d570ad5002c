//! The name of a new container: taken as typed, or made up.

use gantry_domain::{ContainerId, Result, container::name};

use crate::claims::Claims;

/// How often a made-up name is tried before the short id stands in, as in dockerd.
const ATTEMPTS: u32 = 6;

/// Takes `typed`, or a name nobody has.
pub(crate) fn take(claims: &mut Claims, typed: Option<&str>, id: &ContainerId) -> Result<String> {
    if let Some(typed) = typed.filter(|typed| !typed.is_empty()) {
        let name = name::check(typed)?;
        claims.take_name(&name, id)?;
        return Ok(name);
    }
    for attempt in 0..ATTEMPTS {
        let name = name::generate(attempt);
        if !claims.has_name(&name) {
            claims.take_name(&name, id)?;
            return Ok(name);
        }
    }
    claims.take_name(id.short(), id)?;
    Ok(id.short().to_owned())
}
