//! The rest of the host: container files, volumes, root file systems, log files, facts.

mod exec_files;
mod facts;

pub use exec_files::ExecNotes;
pub use facts::Host;
