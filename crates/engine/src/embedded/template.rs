//! The chat template that a model file carries, rendered by `minijinja`.
//!
//! Templates are Jinja as Hugging Face's `apply_chat_template` runs them: blocks trimmed,
//! `raise_exception`, `tojson` without HTML escapes, Python's string methods, and the variables
//! `messages`, `tools`, `bos_token`, `eos_token` and `add_generation_prompt`, besides which a request
//! may set others of the template by `chat_template_kwargs`. A template comes from
//! a file, so its work and its output are bounded. It has no clock: a template that asks for the
//! date gets none, for the same request must give the same prompt.

use std::io::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::error::Problem;
use crate::openai::{ApiError, ChatRequest};

/// Longest template, bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Steps a template may take for each request.
pub const FUEL_PER_REQUEST: u64 = 200_000;
/// Steps it may take for each message besides.
pub const FUEL_PER_MESSAGE: u64 = 5_000;

const NAME: &str = "chat";

/// A chat template.
pub(super) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

impl Template {
    pub(super) fn new(source: &str, bos: String, eos: String) -> Result<Self, Problem> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(Problem::too_large(format!(
                "the chat template has {} bytes; the limit is {MAX_TEMPLATE_BYTES}",
                source.len()
            )));
        }
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|error| Problem::unsupported(format!("no template syntax: {error}")))?,
        );
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| {
                Problem::unsupported(format!("the chat template does not parse: {error}"))
            })?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// The prompt of a request, at most `limit_bytes` long.
    pub(super) fn render(
        &self,
        request: &ChatRequest,
        limit_bytes: usize,
    ) -> Result<String, RenderError> {
        let mut messages = Vec::with_capacity(request.messages.len());
        for message in &request.messages {
            let content = match &message.content {
                Some(content) => Value::from(content.to_text().map_err(RenderError::Request)?),
                None => Value::from(()),
            };
            let mut fields: Vec<(String, Value)> = vec![
                ("role".to_owned(), Value::from(message.role.as_str())),
                ("content".to_owned(), content),
            ];
            for (key, value) in &message.rest {
                fields.push((key.clone(), Value::from(Serde(value))));
            }
            messages.push(Value::from_pairs(fields));
        }
        let mut variables: Vec<(&str, Value)> = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(true)),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
        ];
        if let Some(tools) = request.rest.get("tools") {
            variables.push(("tools", Value::from(Serde(tools))));
        }
        // Names of one object differ, so they are compared with ours only, however many there are.
        let ours = variables.len();
        for (name, value) in own_variables(request)? {
            if variables[..ours].iter().all(|(taken, _)| *taken != name) {
                variables.push((name, Value::from(Serde(value))));
            }
        }
        self.run(
            Value::from_pairs(variables),
            request.messages.len(),
            limit_bytes,
        )
    }

    fn run(
        &self,
        variables: Value,
        messages: usize,
        limit_bytes: usize,
    ) -> Result<String, RenderError> {
        let mut environment = self.environment.clone();
        let fuel = FUEL_PER_REQUEST + FUEL_PER_MESSAGE * messages as u64;
        environment.set_fuel(Some(fuel));
        let template = environment
            .get_template(NAME)
            .map_err(|error| refusal(&error))?;
        let mut out = Bounded {
            bytes: Vec::new(),
            limit_bytes,
            over: false,
        };
        let rendered = template.render_captured_to(variables, &mut out).map(|_| ());
        if out.over {
            return Err(RenderError::TooLong);
        }
        rendered.map_err(|error| refusal(&error))?;
        String::from_utf8(out.bytes)
            .map_err(|_| RenderError::Request(ApiError::internal("the prompt is not UTF-8")))
    }
}

/// Why there is no prompt.
#[derive(Debug)]
pub(super) enum RenderError {
    /// The request does not fit the template; an answer of 400.
    Request(ApiError),
    /// The prompt is longer than any that fits.
    TooLong,
}

/// What the caller tells the template besides, such as Qwen 3's `enable_thinking`: the members of
/// `chat_template_kwargs`, as vLLM and llama.cpp's server have it.
fn own_variables(
    request: &ChatRequest,
) -> Result<impl Iterator<Item = (&str, &serde_json::Value)>, RenderError> {
    const NAME: &str = "chat_template_kwargs";
    match request.rest.get(NAME) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(RenderError::Request(ApiError::invalid(
            NAME,
            format!("Invalid type for '{NAME}': it must be an object."),
        ))),
    }
    .map(|members| {
        let members = members.into_iter().flatten();
        members.map(|(name, value)| (name.as_str(), value))
    })
}

/// The template's own words, if it raised an exception; else the error without the line of the
/// template, which may quote a message.
fn refusal(error: &Error) -> RenderError {
    let message = match error.kind() {
        ErrorKind::OutOfFuel => {
            "The messages take the model's chat template more steps than are allowed; send fewer \
             messages."
                .to_owned()
        }
        ErrorKind::InvalidOperation if error.detail().is_some_and(|d| d.starts_with(RAISED)) => {
            let detail = error.detail().unwrap_or_default();
            format!(
                "The model's chat template refuses these messages: {}",
                detail.trim_start_matches(RAISED)
            )
        }
        kind => format!("The model's chat template cannot take these messages: {kind}."),
    };
    RenderError::Request(ApiError::invalid("messages", message))
}

const RAISED: &str = "raised: ";

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{message}"),
    ))
}

/// Python's `json.dumps` as templates use it.
#[allow(clippy::needless_pass_by_value)] // the shape of a filter
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let unusable = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "not JSON").with_source(error)
    };
    let json: serde_json::Value = serde_json::to_value(value).map_err(unusable)?;
    let Some(indent) = indent else {
        return Ok(spaced(&json));
    };
    let spaces = vec![b' '; indent.min(16)];
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&json, &mut serializer).map_err(unusable)?;
    String::from_utf8(out)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "JSON that is not UTF-8"))
}

/// JSON with a space after each colon and comma, as Python writes it.
fn spaced(value: &serde_json::Value) -> String {
    use serde_json::Value as Json;
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}: {}", Json::from(key.as_str()), spaced(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// Output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit_bytes {
            self.over = true;
            return Err(std::io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
