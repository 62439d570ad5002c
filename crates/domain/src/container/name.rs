//! Names of containers: which are allowed, and new ones made up.

use crate::Result;

/// Strips one leading slash and checks `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
/// `InvalidParameter` `Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`.
pub fn check(_name: &str) -> Result<String> {
    todo!()
}

/// `adjective_surname`, with a digit behind it on later tries.
pub fn generate(_attempt: u32) -> String {
    todo!()
}
