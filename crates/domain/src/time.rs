//! Points in time as Go prints them: RFC 3339 with trailing zeros trimmed, and year 1 for "never".

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What Go's zero `time.Time` prints.
pub const GO_ZERO: &str = "0001-01-01T00:00:00Z";

/// A time that may not have come yet; `None` prints as Go's zero time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoTime(pub Option<Timestamp>);

impl GoTime {
    pub fn now() -> Self {
        Self(Some(Timestamp::now()))
    }
    pub fn is_zero(self) -> bool {
        self.0.is_none()
    }
    /// Seconds since the epoch; 0 when never.
    pub fn unix(self) -> i64 {
        self.0.map_or(0, Timestamp::as_second)
    }
}

impl From<Timestamp> for GoTime {
    fn from(at: Timestamp) -> Self {
        Self(Some(at))
    }
}

impl std::fmt::Display for GoTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(at) => at.fmt(f),
            None => f.write_str(GO_ZERO),
        }
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text == GO_ZERO {
            return Ok(Self(None));
        }
        text.parse().map(|at| Self(Some(at))).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for GoTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoTime".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}
