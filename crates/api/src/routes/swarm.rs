//! The swarm family on a node that is in no swarm: dockerd's own 503s, which the CLI prints as they are.

use http::StatusCode;

use super::unbuilt::not_built;
use crate::{error::ApiError, route::Route};

const NOT_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                           connect this node to swarm and try again.";

pub fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/swarm", "SwarmInspect", not_manager),
        Route::post("/swarm/leave", "SwarmLeave", not_member),
        Route::post("/swarm/update", "SwarmUpdate", not_manager),
        Route::get("/swarm/unlockkey", "SwarmUnlockkey", not_manager),
        Route::post("/swarm/unlock", "SwarmUnlock", not_manager),
        Route::get("/nodes", "NodeList", not_manager),
        Route::get("/nodes/{id}", "NodeInspect", not_manager),
        Route::delete("/nodes/{id}", "NodeDelete", not_manager),
        Route::post("/nodes/{id}/update", "NodeUpdate", not_manager),
        Route::get("/services", "ServiceList", not_manager),
        Route::post("/services/create", "ServiceCreate", not_manager),
        Route::get("/services/{id}", "ServiceInspect", not_manager),
        Route::delete("/services/{id}", "ServiceDelete", not_manager),
        Route::post("/services/{id}/update", "ServiceUpdate", not_manager),
        Route::get("/services/{id}/logs", "ServiceLogs", not_manager),
        Route::get("/tasks", "TaskList", not_manager),
        Route::get("/tasks/{id}", "TaskInspect", not_manager),
        Route::get("/tasks/{id}/logs", "TaskLogs", not_manager),
        Route::get("/secrets", "SecretList", not_manager),
        Route::post("/secrets/create", "SecretCreate", not_manager),
        Route::get("/secrets/{id}", "SecretInspect", not_manager),
        Route::delete("/secrets/{id}", "SecretDelete", not_manager),
        Route::post("/secrets/{id}/update", "SecretUpdate", not_manager),
        Route::get("/configs", "ConfigList", not_manager),
        Route::post("/configs/create", "ConfigCreate", not_manager),
        Route::get("/configs/{id}", "ConfigInspect", not_manager),
        Route::delete("/configs/{id}", "ConfigDelete", not_manager),
        Route::post("/configs/{id}/update", "ConfigUpdate", not_manager),
    ];
    // These two would really start a swarm.
    routes.push(not_built(Route::post, "/swarm/init", "SwarmInit"));
    routes.push(not_built(Route::post, "/swarm/join", "SwarmJoin"));
    routes.into_iter().map(Route::undescribed).collect()
}

async fn not_manager() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NOT_MANAGER)
}

async fn not_member() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm")
}
