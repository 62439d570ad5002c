//! `POST /commit`: an image made of a container.

use axum::{extract::State, response::Response};
use gantry_domain::container::Config;
use gantry_engine::image::ImageCommit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::Result,
    json::Json,
    query::{self, UriQuery},
    reply,
    route::Route,
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/commit", "ImageCommit", image_commit)
            .summary("Make an image of a container")
            .query::<CommitQuery>()
            .body::<Config>()
            .json::<IdResponse>(201)
            .errors(&[400, 404, 409, 500]),
    ]
}

/// 201 of commit.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct IdResponse {
    id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(default)]
struct CommitQuery {
    container: String,
    /// Name of the new image.
    repo: String,
    tag: String,
    comment: String,
    author: String,
    /// The container does not run meanwhile; so it is without this.
    pause: String,
    /// Dockerfile instructions.
    changes: Vec<String>,
}

impl Default for CommitQuery {
    fn default() -> Self {
        let none = String::new;
        Self {
            container: none(),
            repo: none(),
            tag: none(),
            comment: none(),
            author: none(),
            pause: "1".into(),
            changes: Vec::new(),
        }
    }
}

async fn image_commit(
    State(app): State<App>,
    UriQuery(query): UriQuery<CommitQuery>,
    Json(config): Json<Option<Config>>,
) -> Result<Response> {
    let request = ImageCommit {
        container: query.container,
        repo: query.repo,
        tag: query.tag,
        comment: query.comment,
        author: query.author,
        pause: query.pause.is_empty() || query::is_true(&query.pause),
        changes: query.changes,
        // `{}`, as docker-py sends it, says nothing.
        config: config.filter(|config| *config != Config::default()),
    };
    let id = app.engine.image_commit(request).await?;
    Ok(reply::created(&IdResponse { id: id.to_string() }))
}
