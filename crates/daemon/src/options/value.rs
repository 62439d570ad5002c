//! Values of options: read from a flag's text, checked in the file's JSON, and printed as Go prints them.

use serde_json::{Map, Value, json};

use super::{Kind, Row};
use crate::listen::Address;

/// What is wrong with a value, in dockerd's words.
pub type Wrong = String;

/// The value of a flag that was given once or several times.
pub fn from_flags(row: &Row, texts: &[String]) -> Result<Value, Wrong> {
    let flag = row.flag.unwrap_or(row.key);
    let last = texts.last().map_or("", String::as_str);
    let named = |why: String| {
        let dashes = row.short.map_or(format!("--{flag}"), |short| format!("-{short}, --{flag}"));
        format!("invalid argument \"{last}\" for \"{dashes}\" flag: {why}")
    };
    match row.kind {
        Kind::Bool(_) => parse_bool(last)
            .map(Value::from)
            .ok_or_else(|| named(format!("strconv.ParseBool: parsing \"{last}\": invalid syntax"))),
        Kind::Int(_) => last
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| named(format!("strconv.ParseInt: parsing \"{last}\": invalid syntax"))),
        Kind::Text(_) => Ok(last.into()),
        Kind::List if row.key == "hosts" => hosts(texts),
        Kind::List => Ok(Value::Array(texts.iter().map(|text| text.as_str().into()).collect())),
        Kind::Map => Ok(Value::Object(pairs(texts).collect())),
        Kind::Switches => switches(texts).map_err(named),
        Kind::MapOfMaps => map_of_maps(texts).map_err(named),
        Kind::Size(_) => gantry_domain::text::ram_in_bytes(last).map(Value::from).map_err(|e| named(e.to_string())),
        Kind::Ulimits => ulimits(texts).map_err(named),
        Kind::Runtimes => runtimes(texts).map_err(named),
        Kind::Pools => pools(texts).map_err(named),
        Kind::Any => Ok(Value::Null),
    }
}

/// An address of a kind that there is not is the flag's error; all else is found with the rest of the configuration.
fn hosts(texts: &[String]) -> Result<Value, Wrong> {
    for text in texts {
        if let Err(why) = Address::parse(text, false)
            && why.contains("unsupported proto")
        {
            return Err(format!("invalid argument {text:?} for \"-H, --host\" flag: {why}"));
        }
    }
    Ok(Value::Array(texts.iter().map(|text| text.as_str().into()).collect()))
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn pairs(texts: &[String]) -> impl Iterator<Item = (String, Value)> {
    texts.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.into())
    })
}

fn switches(texts: &[String]) -> Result<Value, Wrong> {
    let mut object = Map::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        let value = parse_bool(value).ok_or_else(|| format!("invalid boolean value for {key}: {value}"))?;
        object.insert(key.into(), value.into());
    }
    Ok(Value::Object(object))
}

fn map_of_maps(texts: &[String]) -> Result<Value, Wrong> {
    let mut object = Map::new();
    for text in texts {
        let parts: Vec<&str> = text.splitn(3, '=').collect();
        let [name, key, value] = parts[..] else {
            return Err(format!("invalid value for named option: {text}"));
        };
        object.entry(name).or_insert_with(|| json!({}))[key] = value.into();
    }
    Ok(Value::Object(object))
}

fn ulimits(texts: &[String]) -> Result<Value, Wrong> {
    let mut object = Map::new();
    for text in texts {
        let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        object.insert(name.into(), json!({"Name": name, "Soft": soft, "Hard": hard}));
    }
    Ok(Value::Object(object))
}

fn runtimes(texts: &[String]) -> Result<Value, Wrong> {
    let mut object = Map::new();
    for text in texts {
        let (name, path) = text
            .split_once('=')
            .map(|(name, path)| (name.trim().to_lowercase(), path.trim()))
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("invalid runtime argument: {text}"))?;
        if name == "runc" {
            return Err("runtime name 'runc' is reserved".into());
        }
        if object.insert(name.clone(), json!({"path": path})).is_some() {
            return Err(format!("runtime '{name}' was already defined"));
        }
    }
    Ok(Value::Object(object))
}

fn pools(texts: &[String]) -> Result<Value, Wrong> {
    let pool = |text: &String| {
        let mut pool = json!({});
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("base", base)) => pool["base"] = base.into(),
                Some(("size", size)) => {
                    pool["size"] = size.parse::<i64>().map_err(|_| format!("invalid size value: \"{size}\""))?.into();
                }
                Some((key, _)) => return Err(format!("unexpected key '{key}' in '{part}'")),
                None => return Err(format!("invalid field '{part}' must be a key=value pair")),
            }
        }
        Ok(pool)
    };
    Ok(Value::Array(texts.iter().map(pool).collect::<Result<_, _>>()?))
}

/// Checks a value of the file, as Go's decoder does; sizes may be numbers or text.
pub fn from_file(row: &Row, value: &Value) -> Result<Value, Wrong> {
    let fits = match row.kind {
        Kind::Bool(_) => value.is_boolean(),
        Kind::Int(_) => value.is_i64(),
        Kind::Text(_) => value.is_string(),
        Kind::List => all(value.as_array().map(|list| list.iter()), Value::is_string),
        Kind::Map => all(value.as_object().map(|map| map.values()), Value::is_string),
        Kind::Switches => all(value.as_object().map(|map| map.values()), Value::is_boolean),
        Kind::MapOfMaps => all(value.as_object().map(|map| map.values()), Value::is_object),
        Kind::Size(_) => match value {
            Value::String(text) => {
                return gantry_domain::text::ram_in_bytes(text).map(Value::from).map_err(|e| e.to_string());
            }
            value => value.is_i64(),
        },
        Kind::Ulimits | Kind::Runtimes => all(value.as_object().map(|map| map.values()), Value::is_object),
        Kind::Pools => all(value.as_array().map(|list| list.iter()), Value::is_object),
        Kind::Any => true,
    };
    if fits {
        Ok(value.clone())
    } else if value.is_null() {
        Ok(row.kind.default_value())
    } else {
        let (found, wanted) = (json_name(value), go_type(row.kind));
        Err(format!("json: cannot unmarshal {found} into Go struct field Config.{} of type {wanted}", row.key))
    }
}

fn all<'a>(values: Option<impl Iterator<Item = &'a Value>>, fits: fn(&Value) -> bool) -> bool {
    values.is_some_and(|mut values| values.all(fits))
}

/// Go's name of the kind of a value.
pub fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool(_) => "bool",
        Kind::Int(_) => "int",
        Kind::Text(_) => "string",
        Kind::List => "[]string",
        Kind::Map => "map[string]string",
        Kind::MapOfMaps => "map[string]map[string]string",
        Kind::Switches => "map[string]bool",
        Kind::Size(_) => "opts.MemBytes",
        Kind::Ulimits => "map[string]*container.Ulimit",
        Kind::Runtimes => "map[string]system.Runtime",
        Kind::Pools => "opts.PoolsOpt",
        Kind::Any => "interface {}",
    }
}

/// Go's `%v`.
pub fn printed(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(" ");
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", list(items.iter().map(printed).collect())),
        Value::Object(map) => {
            format!("map[{}]", list(map.iter().map(|(key, value)| format!("{key}:{}", printed(value))).collect()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{by_flag, by_key};

    fn flag(name: &str, texts: &[&str]) -> Result<Value, Wrong> {
        from_flags(by_flag(name).expect("known"), &texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_come_to_the_values_of_the_file() {
        assert_eq!(flag("debug", &["T"]), Ok(json!(true)));
        assert_eq!(flag("mtu", &["1400"]), Ok(json!(1400)));
        assert_eq!(flag("label", &["a=b", "c"]), Ok(json!(["a=b", "c"])));
        assert_eq!(flag("log-opt", &["max-size=1m", "compress"]), Ok(json!({"max-size": "1m", "compress": ""})));
        assert_eq!(flag("feature", &["a", "b=false"]), Ok(json!({"a": true, "b": false})));
        assert_eq!(
            flag("default-ulimit", &["nofile=1024:2048", "core=0"]),
            Ok(json!({"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048},
                      "core": {"Name": "core", "Soft": 0, "Hard": 0}}))
        );
        assert_eq!(flag("add-runtime", &["crun=/usr/bin/crun"]), Ok(json!({"crun": {"path": "/usr/bin/crun"}})));
        assert_eq!(
            flag("default-address-pool", &["base=10.0.0.0/8,size=24"]),
            Ok(json!([{"base": "10.0.0.0/8", "size": 24}]))
        );
    }

    #[test]
    fn a_bad_flag_is_named_with_its_value() {
        assert_eq!(
            flag("debug", &["maybe"]),
            Err("invalid argument \"maybe\" for \"-D, --debug\" flag: strconv.ParseBool: parsing \"maybe\": invalid \
                 syntax"
                .into())
        );
        assert!(flag("add-runtime", &["runc=/x"]).is_err_and(|e| e.ends_with("runtime name 'runc' is reserved")));
        assert!(flag("add-runtime", &["x"]).is_err_and(|e| e.ends_with("invalid runtime argument: x")));
        assert!(flag("default-ulimit", &["nofile"]).is_err());
    }

    #[test]
    fn a_wrong_type_in_the_file_is_told_as_go_tells_it() {
        assert_eq!(
            from_file(by_key("debug").expect("known"), &json!("yes")),
            Err("json: cannot unmarshal string into Go struct field Config.debug of type bool".into())
        );
        assert!(from_file(by_key("hosts").expect("known"), &json!(["a", 1])).is_err());
        assert_eq!(from_file(by_key("labels").expect("known"), &Value::Null), Ok(json!([])));
    }

    #[test]
    fn values_print_as_go_prints_them() {
        assert_eq!(printed(&json!(["unix:///a", "fd://"])), "[unix:///a fd://]");
        assert_eq!(printed(&json!({"a": true})), "map[a:true]");
        assert_eq!(printed(&json!("x")), "x");
    }
}
