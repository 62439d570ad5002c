//! One entry of the route table: from it come both the router and the description of the API.

use std::collections::BTreeMap;

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    app::App,
    error::{ApiError, panicked},
};

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation: where it is served, by whom, and what it takes and answers.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    /// Docker's operation id; the handler and the engine's method have the same name in snake case.
    pub id: &'static str,
    pub summary: &'static str,
    pub handler: MethodRouter<App>,
    pub query: Option<SchemaOf>,
    pub body: Option<RequestBody>,
    pub answers: Vec<Answer>,
    /// Whether the description of the API names it; what is not built is routed and not described.
    pub described: bool,
}

/// What a request may carry.
#[derive(Clone, Copy)]
pub struct RequestBody {
    pub content_type: &'static str,
    /// `None` for bytes.
    pub schema: Option<SchemaOf>,
    pub required: bool,
}

/// One status that an operation may answer with.
#[derive(Clone, Copy)]
pub struct Answer {
    pub status: u16,
    /// Empty: no body.
    pub content_type: &'static str,
    pub schema: Option<SchemaOf>,
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A struct's own schema, for its properties become parameters.
fn whole_schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

macro_rules! method {
    ($name:ident, $method:ident) => {
        pub fn $name<H, T>(path: &'static str, id: &'static str, handler: H) -> Self
        where
            H: Handler<T, App>,
            T: 'static,
        {
            Self::new(Method::$method, MethodFilter::$method, path, id, handler)
        }
    };
}

impl Route {
    method!(get, GET);
    method!(head, HEAD);
    method!(post, POST);
    method!(put, PUT);
    method!(delete, DELETE);

    /// `OPTIONS` on anything is answered before routing (see `version`); the entry stands for it in the lists.
    pub fn options(path: &'static str, id: &'static str) -> Self {
        Self { method: Method::OPTIONS, ..Self::get(path, id, page_not_found) }.undescribed()
    }

    fn new<H, T>(method: Method, filter: MethodFilter, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        Self {
            method,
            path,
            id,
            summary: "",
            handler: on(filter, handler),
            query: None,
            body: None,
            answers: Vec::new(),
            described: true,
        }
    }

    pub fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }
    /// Parameters of the query: the fields of `T`.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(whole_schema_of::<T>);
        self
    }
    /// A JSON body that may be absent.
    pub fn body<T: JsonSchema>(mut self) -> Self {
        let schema = Some(schema_of::<T> as SchemaOf);
        self.body = Some(RequestBody { content_type: "application/json", schema, required: false });
        self
    }
    /// A JSON body that must be there.
    pub fn required_body<T: JsonSchema>(self) -> Self {
        let mut route = self.body::<T>();
        if let Some(body) = route.body.as_mut() {
            body.required = true;
        }
        route
    }
    /// A tar archive.
    pub fn archive_body(mut self) -> Self {
        self.body = Some(RequestBody { content_type: "application/x-tar", schema: None, required: false });
        self
    }
    /// A status with a JSON body.
    pub fn json<T: JsonSchema>(mut self, status: u16) -> Self {
        self.answers.push(Answer { status, content_type: "application/json", schema: Some(schema_of::<T>) });
        self
    }
    /// A status with another body.
    pub fn content(mut self, status: u16, content_type: &'static str) -> Self {
        self.answers.push(Answer { status, content_type, schema: None });
        self
    }
    /// A status without a body.
    pub fn empty(self, status: u16) -> Self {
        self.content(status, "")
    }
    /// Statuses with Docker's error body.
    pub fn errors(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self = self.json::<crate::error::ErrorResponse>(*status);
        }
        self
    }
    /// Routed, but not part of what is served.
    pub fn undescribed(mut self) -> Self {
        self.described = false;
        self
    }
    /// `GET /containers/json`, the key of the coverage list.
    #[cfg(test)]
    pub fn key(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The router over all routes: unknown paths and wrong methods are Docker's JSON 404, and a panic ends one request.
pub fn router(routes: Vec<Route>, app: App) -> Router {
    let mut paths: BTreeMap<&'static str, (MethodRouter<App>, bool, bool)> = BTreeMap::new();
    for route in routes.into_iter().filter(|route| route.method != Method::OPTIONS) {
        let (merged, get, head) = paths.remove(route.path).unwrap_or_default();
        let get = get || route.method == Method::GET;
        let head = head || route.method == Method::HEAD;
        paths.insert(route.path, (merged.merge(route.handler), get, head));
    }
    let mut router = Router::new();
    for (path, (mut methods, get, head)) in paths {
        if get && !head {
            // axum would answer HEAD by GET; Docker's router does not.
            methods = methods.head(page_not_found);
        }
        router = router.route(path, methods);
    }
    router
        .fallback(page_not_found)
        .method_not_allowed_fallback(page_not_found)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

async fn page_not_found() -> ApiError {
    ApiError::page_not_found()
}
