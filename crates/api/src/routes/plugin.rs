//! Plugins: there are none. The list is empty and a name is not found, so that `docker inspect nosuch` works.

use axum::response::Response;
use http::StatusCode;

use super::unbuilt::not_built;
use crate::{
    error::{ApiError, Result},
    extract::Name,
    reply,
    route::Route,
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/plugins", "PluginList", plugin_list).undescribed(),
        Route::get("/plugins/{name}/json", "PluginInspect", plugin_not_found).undescribed(),
        Route::delete("/plugins/{name}", "PluginDelete", plugin_not_found).undescribed(),
        Route::post("/plugins/{name}/enable", "PluginEnable", plugin_not_found).undescribed(),
        Route::post("/plugins/{name}/disable", "PluginDisable", plugin_not_found).undescribed(),
        Route::post("/plugins/{name}/upgrade", "PluginUpgrade", plugin_not_found).undescribed(),
        Route::post("/plugins/{name}/push", "PluginPush", plugin_not_found).undescribed(),
        Route::post("/plugins/{name}/set", "PluginSet", plugin_not_found).undescribed(),
        not_built(Route::get, "/plugins/privileges", "GetPluginPrivileges"),
        not_built(Route::post, "/plugins/pull", "PluginPull"),
        not_built(Route::post, "/plugins/create", "PluginCreate"),
    ]
}

async fn plugin_list() -> Response {
    reply::ok::<[(); 0]>(&[])
}

async fn plugin_not_found(Name(name): Name) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_FOUND, format!("plugin {name:?} not found")))
}
