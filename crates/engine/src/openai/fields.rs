//! Fields of a request, taken out one by one, with errors that name them.

use serde_json::{Map, Value};

use super::error::ApiError;

/// A JSON object whose fields are taken out one by one; `path` goes before names in errors.
pub(super) struct Fields<'a> {
    /// What was not taken out yet.
    pub(super) map: Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: Map<String, Value>, path: &'a str) -> Self {
        Self { map, path }
    }

    pub(super) fn named(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Takes a field; `null` counts as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn required_string(&mut self, name: &str) -> Result<String, ApiError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong_type(&self.named(name), "a string", &other)),
            None => {
                let named = self.named(name);
                Err(ApiError::invalid(
                    &named,
                    format!("Missing required parameter: '{named}'."),
                ))
            }
        }
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(&self.named(name), "a boolean", &other)),
        }
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong_type(&self.named(name), "a number", &value)),
            },
        }
    }

    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong_type(&self.named(name), "a 64-bit integer", &value)),
            },
        }
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong_type(
                    &self.named(name),
                    "an integer that is not negative",
                    &value,
                )),
            },
        }
    }
}

pub(super) fn wrong_type(param: &str, expected: &str, got: &Value) -> ApiError {
    ApiError::invalid(
        param,
        format!(
            "Invalid type for '{param}': expected {expected}, but got {} instead.",
            kind_of(got)
        ),
    )
    .with_code("invalid_type")
}

/// The kind of a value, never the value itself: errors must not carry a prompt into a log.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
