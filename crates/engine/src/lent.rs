//! What plugins of networks and addresses lend: taken under a debt, then held by a record, given back when the record
//! lets go of it. `debts.rs` is the table, `take.rs` and `network.rs` take, `give_back.rs` gives back.
//!
//! No call of a plugin is made under a lock, and none of those that give back is waited for long: what a plugin that is
//! away does not take stays a debt, for a pass of this engine or of the next one.

mod debts;
mod give_back;
pub(crate) mod network;
mod replay;
mod take;

pub(crate) use debts::{Debts, Holding};
pub(crate) use take::{Wanted, take};

use gantry_domain::{Error, ErrorKind};

/// As a client is to see it: a plugin that does not answer is the host's fault, not the engine's being away.
pub(crate) fn shown(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unavailable => error.with_kind(ErrorKind::System),
        _ => error,
    }
}
