//! Docker's REST API over the engine: routes, versions, parameters, views, streams, hijacked connections.
//!
//! The only crate that knows HTTP. The way of a request: `server` (one connection) → `version` (prefix, path, headers)
//! → `route` (the router made of the tables in `routes`) → a handler of ten lines → the engine → a view.

pub mod app;
mod body;
pub mod error;
mod extract;
mod hijack;
mod json;
pub mod openapi;
mod path;
mod query;
mod reply;
mod route;
mod routes;
mod server;
mod stream;
mod tap;
mod version;
mod views;

pub use app::{About, App, MAX_VERSION, MIN_VERSION};
pub use server::serve_connection;
pub use tap::ClientStream;
pub use version::Api;
