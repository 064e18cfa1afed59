//! Good answers, byte for byte: with odd spacing and fields that no client knows, to show that
//! they survive.

/// How many tokens a good answer has unless told otherwise.
pub const TOKENS: usize = 8;

pub fn token(number: usize) -> String {
    format!("t{number} ")
}

fn text(tokens: usize) -> String {
    (0..tokens).map(token).collect()
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Chat,
    Completions,
    Embeddings,
    Responses,
}

impl Surface {
    pub const ALL: [Self; 4] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }

    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|surface| surface.path() == path)
    }

    /// A whole answer.
    pub fn plain(self, model: &str, choices: usize) -> Vec<u8> {
        match self {
            Self::Chat => plain_answer_of(model, choices),
            Self::Completions => completion(model, choices),
            Self::Embeddings => embeddings(model),
            Self::Responses => response(model, "completed", TOKENS),
        }
    }

    /// The events of a good stream: the name of each, if it has one, and its data. `[DONE]` is not
    /// among them.
    pub fn events(self, model: &str, choices: usize, tokens: usize) -> Vec<Event> {
        match self {
            Self::Chat => chat_events(model, choices, tokens),
            Self::Completions | Self::Embeddings => completion_events(model, choices, tokens),
            Self::Responses => response_events(model, tokens),
        }
    }

    /// An event that says that the key is none, in these words, which are JSON already.
    pub fn error(self, message: &str) -> Event {
        let (name, data) = match self {
            Self::Responses => (
                Some("error"),
                format!(
                    "{{\"type\":\"error\",\"code\":\"invalid_api_key\",\"message\":{message},\
                     \"param\":null,\"sequence_number\":9}}"
                ),
            ),
            _ => (
                None,
                format!(
                    "{{\"error\":{{\"message\":{message},\"type\":\"invalid_request_error\",\
                     \"param\":null,\"code\":\"invalid_api_key\"}}}}"
                ),
            ),
        };
        Event {
            name,
            data,
            is_token: false,
            is_end: true,
        }
    }

    /// Whether streams end in `[DONE]`.
    pub fn has_done(self) -> bool {
        self != Self::Responses
    }
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: Option<&'static str>,
    pub data: String,
    /// Adds text for the reader.
    pub is_token: bool,
    /// Ends a choice, or the whole answer.
    pub is_end: bool,
}

impl Event {
    pub fn frame(&self) -> String {
        let data = &self.data;
        match self.name {
            None => format!("data: {data}\n\n"),
            Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        }
    }
}

/// The whole answer to a plain chat.
pub fn plain_answer(model: &str) -> Vec<u8> {
    plain_answer_of(model, 1)
}

fn plain_answer_of(model: &str, choices: usize) -> Vec<u8> {
    let text = text(TOKENS);
    let choices: Vec<String> = (0..choices)
        .map(|index| {
            format!(
                "{{\"index\":{index},\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\
                 \"finish_reason\":\"stop\"}}"
            )
        })
        .collect();
    format!(
        "{{\"id\":\"c-1\", \"object\":\"chat.completion\",\"x_unknown\":{{\"deep\":[1,2.50,null]}},\
         \"created\":1,\"model\":\"{model}\",\"choices\":[{}],\"usage\":{{\
         \"prompt_tokens\":5,\"completion_tokens\":{TOKENS},\"total_tokens\":{}}}}}\n",
        choices.join(","),
        TOKENS + 5
    )
    .into_bytes()
}

/// The data of the events of a good chat, without `[DONE]`.
pub fn stream_events(model: &str) -> Vec<String> {
    let events = chat_events(model, 1, TOKENS);
    events.into_iter().map(|event| event.data).collect()
}

fn chat_events(model: &str, choices: usize, tokens: usize) -> Vec<Event> {
    let chunk = |index: usize, delta: &str, finish: &str| {
        format!(
            "{{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\
             \"{model}\",\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":\
             {finish}}}],\"x_unknown\": 1.50}}"
        )
    };
    let event = |data, is_token, is_end| Event {
        name: None,
        data,
        is_token,
        is_end,
    };
    let mut events = Vec::new();
    for index in 0..choices {
        let role = r#"{"role":"assistant","content":""}"#;
        events.push(event(chunk(index, role, "null"), false, false));
    }
    for number in 0..tokens {
        for index in 0..choices {
            let delta = format!("{{\"content\":\"{}\"}}", token(number));
            events.push(event(chunk(index, &delta, "null"), true, false));
        }
    }
    for index in 0..choices {
        events.push(event(chunk(index, "{}", "\"stop\""), false, true));
    }
    let usage = format!(
        "{{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\
         \"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{tokens},\
         \"total_tokens\":{}}}}}",
        tokens + 5
    );
    events.push(event(usage, false, false));
    events
}

fn completion(model: &str, choices: usize) -> Vec<u8> {
    let text = text(TOKENS);
    let choices: Vec<String> = (0..choices)
        .map(|index| {
            format!(
                "{{\"text\":\"{text}\",\"index\":{index},\"logprobs\":{{\"x\":[-1.250e0]}},\
                 \"finish_reason\":\"stop\"}}"
            )
        })
        .collect();
    format!(
        "{{\"id\":\"cmpl-1\",\"object\":\"text_completion\", \"created\":1,\"model\":\"{model}\",\
         \"choices\":[{}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{TOKENS},\
         \"total_tokens\":{}}},\"x_unknown\":1E+2}}",
        choices.join(","),
        TOKENS + 5
    )
    .into_bytes()
}

fn completion_events(model: &str, choices: usize, tokens: usize) -> Vec<Event> {
    let chunk = |index: usize, text: &str, finish: &str| {
        format!(
            "{{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"{model}\",\
             \"choices\":[{{\"text\":\"{text}\",\"index\":{index},\"finish_reason\":{finish}}}]}}"
        )
    };
    let event = |data, is_token, is_end| Event {
        name: None,
        data,
        is_token,
        is_end,
    };
    let mut events = Vec::new();
    for number in 0..tokens {
        for index in 0..choices {
            events.push(event(chunk(index, &token(number), "null"), true, false));
        }
    }
    for index in 0..choices {
        events.push(event(chunk(index, "", "\"length\""), false, true));
    }
    events
}

fn embeddings(model: &str) -> Vec<u8> {
    format!(
        "{{\"object\":\"list\",\"data\":[{{\"object\":\"embedding\",\"index\":0,\"embedding\":\
         [0.0023064255, -9.327e-3,1.0]}},{{\"object\":\"embedding\",\"index\":1,\"embedding\":\
         \"AACAPw==\"}}],\"model\":\"{model}\", \"usage\":{{\"prompt_tokens\":5,\
         \"total_tokens\":5}}}}"
    )
    .into_bytes()
}

fn response(model: &str, status: &str, tokens: usize) -> Vec<u8> {
    let text = text(tokens);
    let (output, usage) = if status == "completed" {
        (
            format!(
                "[{{\"type\":\"message\",\"id\":\"m-1\",\"status\":\"completed\",\"role\":\
                 \"assistant\",\"content\":[{{\"type\":\"output_text\",\"text\":\"{text}\",\
                 \"annotations\":[]}}]}}]"
            ),
            format!(
                "{{\"input_tokens\":5,\"output_tokens\":{tokens},\"total_tokens\":{}}}",
                tokens + 5
            ),
        )
    } else {
        ("[]".to_owned(), "null".to_owned())
    };
    format!(
        "{{\"id\":\"resp-1\",\"object\":\"response\", \"created_at\":1,\"status\":\"{status}\",\
         \"error\":null,\"incomplete_details\":null,\"model\":\"{model}\",\"output\":{output},\
         \"usage\":{usage},\"x_unknown\":[1,2.50]}}"
    )
    .into_bytes()
}

fn response_events(model: &str, tokens: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut push = |name: &'static str, rest: &str, is_token, is_end| {
        let number = events.len();
        events.push(Event {
            name: Some(name),
            data: format!("{{\"type\":\"{name}\",\"sequence_number\":{number},{rest}}}"),
            is_token,
            is_end,
        });
    };
    let whole = |status| String::from_utf8(response(model, status, tokens)).expect("UTF-8");
    let begun = format!("\"response\":{}", whole("in_progress"));
    push("response.created", &begun, false, false);
    push("response.in_progress", &begun, false, false);
    let item = r#""output_index":0,"item":{"type":"message","id":"m-1","content":[]}"#;
    push("response.output_item.added", item, false, false);
    let part = r#""item_id":"m-1","content_index":0,"part":{"type":"output_text","text":""}"#;
    push("response.content_part.added", part, false, false);
    for number in 0..tokens {
        let delta = format!(
            "\"item_id\":\"m-1\",\"output_index\":0,\"content_index\":0,\"delta\":\"{}\"",
            token(number)
        );
        push("response.output_text.delta", &delta, true, false);
    }
    let text = format!("\"item_id\":\"m-1\",\"text\":\"{}\"", text(tokens));
    push("response.output_text.done", &text, false, false);
    let whole = format!("\"response\":{}", whole("completed"));
    push("response.completed", &whole, false, true);
    events
}
