//! The API's sockets: what `-H` names becomes listening sockets, and each connection a task of its own.
//!
//! address (text) → bind (a listening socket) → accept (a loop that never ends by itself) → tls (a handshake in the
//! connection's own task) → the API.

mod accept;
mod address;
mod bind;
mod stream;
mod systemd;
mod tls;
mod unix;

pub use accept::{Door, Serve, accept};
pub use address::Address;
pub use bind::{Group, Listener, Socket, admit, adopt, bind, check_free};
pub use stream::Stream;
pub use systemd::Inherited;
pub use tls::acceptor;
