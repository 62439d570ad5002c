//! The description of the API, made from the route table and the types: what `api-spec/openapi.yaml` holds.

mod yaml;

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use crate::{
    app::{MAX_VERSION, text},
    route::{Answer, RequestBody, Route},
};

/// Fields that take a plain string where a list of strings is described.
const STRING_OR_LIST: [&str; 5] = ["Cmd", "Entrypoint", "Shell", "CapAdd", "CapDrop"];

/// The description as YAML.
pub fn yaml() -> String {
    let mut text = String::from("# Made from the code by `make spec`; do not edit.\n");
    yaml::write(&mut text, &document(&crate::routes::all()));
    text
}

fn document(routes: &[Route]) -> Value {
    let mut requests = generator(Contract::Deserialize);
    let mut answers = generator(Contract::Serialize);
    let mut paths = Map::new();
    for route in routes.iter().filter(|route| route.described) {
        let operation = operation(route, &mut requests, &mut answers);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    let mut schemas: Map<String, Value> = answers.take_definitions(true).into_iter().collect();
    for (name, mut schema) in requests.take_definitions(true) {
        lenient(&mut schema);
        schemas.insert(format!("{name}Request"), schema);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gantry Engine API",
            "version": text(MAX_VERSION),
            "description": "Docker's Engine API as gantryd serves it. Every path is served bare and below /v{version}.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": format!("/v{}", text(MAX_VERSION)) }],
        "paths": paths,
        "components": { "schemas": schemas },
    });
    tidy(&mut document);
    document
}

fn generator(contract: Contract) -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.contract = contract;
        })
        .into_generator()
}

fn operation(route: &Route, requests: &mut SchemaGenerator, answers: &mut SchemaGenerator) -> Value {
    let tag = route.path.split('/').nth(1).unwrap_or_default();
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "tags": [tag],
        "responses": responses(&route.answers, answers),
    });
    let mut parameters = path_parameters(route.path);
    if let Some(query) = route.query {
        parameters.extend(query_parameters(query(requests).to_value()));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        operation["requestBody"] = request_body(body, requests);
    }
    operation
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
        })
        .collect()
}

fn query_parameters(schema: Value) -> Vec<Value> {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().cloned().collect();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    properties
        .into_iter()
        .map(|(name, mut schema)| {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({
                "name": name,
                "in": "query",
                "required": required.contains(&Value::from(name.as_str())),
                "schema": query_schema(&schema),
            });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        })
        .collect()
}

/// A query holds text: a boolean is any text, for Docker takes everything.
fn query_schema(schema: &Value) -> Value {
    let has = |wanted: &str| match &schema["type"] {
        Value::String(name) => name == wanted,
        Value::Array(names) => names.iter().any(|name| name == wanted),
        _ => false,
    };
    if has("boolean") {
        return json!({ "anyOf": [{ "type": "boolean" }, { "type": "string" }] });
    }
    if has("array") {
        return json!({ "type": "array", "items": { "type": "string" } });
    }
    let mut schema = schema.clone();
    schema["type"] = "string".into();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("default");
    }
    schema
}

fn request_body(body: RequestBody, requests: &mut SchemaGenerator) -> Value {
    let schema = match body.schema {
        Some(schema) => {
            let mut schema = schema(requests).to_value();
            lenient(&mut schema);
            schema
        }
        None => json!({}),
    };
    json!({ "required": body.required, "content": { body.content_type: { "schema": schema } } })
}

fn responses(list: &[Answer], answers: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for answer in list {
        let status = http::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
        let entry = responses
            .entry(answer.status.to_string())
            .or_insert_with(|| json!({ "description": status.unwrap_or("Answer") }));
        if answer.content_type.is_empty() {
            continue;
        }
        let media = match answer.schema {
            Some(schema) => json!({ "schema": schema(answers).to_value() }),
            None => json!({}),
        };
        if entry.get("content").is_none() {
            entry["content"] = json!({});
        }
        entry["content"][answer.content_type] = media;
    }
    responses.into()
}

/// Requests are decoded as Go does: `null` anywhere is the zero value.
fn lenient(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = format!("{reference}Request");
                let reference = std::mem::take(members);
                members.insert("anyOf".into(), json!([reference, { "type": "null" }]));
                return;
            }
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for (name, property) in properties {
                    if STRING_OR_LIST.contains(&name.as_str()) && property["type"] != "string" {
                        property["type"] = json!(["array", "string"]);
                    }
                }
            }
            if let Some(kind @ Value::String(_)) = members.get_mut("type")
                && *kind != "null"
            {
                *kind = json!([kind.clone(), "null"]);
            } else if let Some(Value::Array(kinds)) = members.get_mut("type")
                && !kinds.contains(&Value::from("null"))
            {
                kinds.push("null".into());
            }
            // A Go array is filled up or cut.
            members.remove("minItems");
            members.remove("maxItems");
            for (key, member) in members {
                if key != "enum" && key != "type" && key != "default" && key != "required" {
                    lenient(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lenient),
        _ => {}
    }
}

/// Drops what says nothing here.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("default");
            members.remove("$schema");
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
