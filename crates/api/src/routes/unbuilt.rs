//! Operations that are not built yet: routed, so that clients read an honest 501 and not a missing page.

use std::future::{Ready, ready};

use axum::{
    extract::{Request, State},
    handler::Handler,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;

use crate::{app::App, error::ApiError, route::Route};

pub fn routes() -> Vec<Route> {
    vec![
        not_built(Route::post, "/build", "ImageBuild"),
        not_built(Route::post, "/build/cancel", "BuildCancel"),
        not_built(Route::post, "/session", "Session"),
        not_built(Route::post, "/grpc", "Grpc"),
        Route::get("/containers/{id}/checkpoints", "CheckpointList", checkpoint).undescribed(),
        Route::post("/containers/{id}/checkpoints", "CheckpointCreate", checkpoint).undescribed(),
        Route::delete("/containers/{id}/checkpoints/{checkpoint}", "CheckpointDelete", checkpoint).undescribed(),
        // There is no Go runtime to look into.
        Route::get("/debug/vars", "DebugVars", no_debug).undescribed(),
        Route::get("/debug/pprof/", "DebugPprof", no_debug).undescribed(),
        Route::get("/debug/pprof/cmdline", "DebugPprofCmdline", no_debug).undescribed(),
        Route::get("/debug/pprof/profile", "DebugPprofProfile", no_debug).undescribed(),
        Route::get("/debug/pprof/symbol", "DebugPprofSymbol", no_debug).undescribed(),
        Route::get("/debug/pprof/trace", "DebugPprofTrace", no_debug).undescribed(),
        Route::get("/debug/pprof/{name}", "DebugPprofName", no_debug).undescribed(),
    ]
}

/// An operation that answers 501.
pub fn not_built(
    method: fn(&'static str, &'static str, NotBuilt) -> Route,
    path: &'static str,
    id: &'static str,
) -> Route {
    method(path, id, NotBuilt(path)).undescribed()
}

/// Answers `POST /build is not implemented by gantry yet`.
#[derive(Clone, Copy)]
pub struct NotBuilt(&'static str);

impl Handler<(), App> for NotBuilt {
    type Future = Ready<Response>;
    fn call(self, request: Request, _: App) -> Self::Future {
        let message = format!("{} {} is not implemented by gantry yet", request.method(), self.0);
        ready(ApiError::new(StatusCode::NOT_IMPLEMENTED, message).into_response())
    }
}

async fn checkpoint(State(app): State<App>) -> ApiError {
    let message = if app.engine.settings().experimental {
        "checkpoints are not implemented by gantry yet"
    } else {
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to \
         enable it."
    };
    ApiError::new(StatusCode::NOT_IMPLEMENTED, message)
}

async fn no_debug() -> ApiError {
    ApiError::page_not_found()
}
