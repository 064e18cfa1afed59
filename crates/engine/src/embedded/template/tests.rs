use serde_json::json;

use super::*;

fn request(messages: &serde_json::Value, tools: Option<serde_json::Value>) -> ChatRequest {
    let mut body = json!({"model": "m", "messages": messages});
    if let Some(tools) = tools {
        body["tools"] = tools;
    }
    ChatRequest::parse(body.to_string().as_bytes()).expect("a request")
}

fn render(source: &str, request: &ChatRequest) -> Result<String, RenderError> {
    Template::new(source, "<s>".into(), "</s>".into())
        .expect("a template")
        .render(request, 10_000)
}

fn refused(source: &str, request: &ChatRequest) -> ApiError {
    match render(source, request) {
        Err(RenderError::Request(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The template of Llama 2 as Hugging Face has it, shortened to what it does.
const LLAMA2: &str = "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

const CHATML: &str = "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";

#[test]
fn templates_of_well_known_models() {
    let chat = request(
        &json!([{"role": "system", "content": "S"}, {"role": "user", "content": " U "},
            {"role": "assistant", "content": "A"}, {"role": "user", "content": "V"}]),
        None,
    );
    assert_eq!(
        render(LLAMA2, &chat).expect("a prompt"),
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n U [/INST] A </s><s>[INST] V [/INST]"
    );
    assert_eq!(
        render(CHATML, &chat).expect("a prompt"),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U <|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"
    );
    let twice = request(
        &json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
        None,
    );
    let error = refused(LLAMA2, &twice);
    assert_eq!(
        (error.status, error.param.as_deref()),
        (400, Some("messages"))
    );
    assert!(
        error.message.contains("must alternate"),
        "{}",
        error.message
    );
}

/// The template of Qwen 3 as Hugging Face has it, without its texts for tools.
const QWEN3: &str = r#"{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"#;

#[test]
fn qwen3_forgets_old_thoughts_and_can_be_told_not_to_think() {
    let mut chat = request(
        &json!([{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA"},
            {"role": "user", "content": "V"}]),
        None,
    );
    let prompt = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(QWEN3, &chat).expect("a prompt"), prompt);
    let told = |chat: &mut ChatRequest, kwargs: serde_json::Value| {
        chat.rest.insert("chat_template_kwargs".into(), kwargs);
    };
    // What is Longrun's to say is not the caller's.
    told(
        &mut chat,
        json!({"enable_thinking": false, "messages": [], "add_generation_prompt": false}),
    );
    let thoughtless = format!("{prompt}<think>\n\n</think>\n\n");
    assert_eq!(render(QWEN3, &chat).expect("a prompt"), thoughtless);
    told(&mut chat, json!([1]));
    let error = refused(QWEN3, &chat);
    assert_eq!(error.param.as_deref(), Some("chat_template_kwargs"));
}

#[test]
fn text_is_not_escaped_and_json_is_pythons() {
    let chat = request(
        &json!([{"role": "user", "content": "a <b> & 'c' \"d\""}]),
        Some(json!([{"z": 1, "a": {"q": ["x<y", 2.5]}}])),
    );
    let source =
        "{{ messages[0].content }}|{{ tools | tojson }}|{{ tools[0].a | tojson(indent=2) }}";
    assert_eq!(
        render(source, &chat).expect("a prompt"),
        "a <b> & 'c' \"d\"|[{\"z\": 1, \"a\": {\"q\": [\"x<y\", 2.5]}}]|{\n  \"q\": [\n    \"x<y\",\n    2.5\n  ]\n}"
    );
    // Fields we do not know reach the template; a clock does not.
    let chat = request(
        &json!([{"role": "tool", "content": "4", "tool_call_id": "c1"}]),
        None,
    );
    let source = "{{ messages[0].tool_call_id }} {{ strftime_now is defined }}";
    assert_eq!(render(source, &chat).expect("a prompt"), "c1 False");
}

#[test]
fn runaway_templates_are_stopped() {
    let chat = request(&json!([{"role": "user", "content": "secret-words"}]), None);
    let error = refused(
        "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        &chat,
    );
    assert!(error.message.contains("more steps"), "{}", error.message);
    let long = "{% for a in range(2000) %}{{ messages[0].content }}{% endfor %}";
    assert!(matches!(render(long, &chat), Err(RenderError::TooLong)));
    // What goes wrong inside is reported without the words of the message.
    let error = refused("{{ messages[0].content.nothing.at_all() }}", &chat);
    assert!(!error.message.contains("secret"), "{}", error.message);
    let recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert_eq!(refused(recursion, &chat).status, 400);
    let error = Template::new("{% for %}", String::new(), String::new()).map(|_| ());
    let problem = error
        .expect_err("no template")
        .at(std::path::Path::new("m.gguf"));
    assert!(
        problem.to_string().contains("chat template does not parse"),
        "{problem}"
    );
    assert!(
        Template::new(
            &" ".repeat(MAX_TEMPLATE_BYTES + 1),
            String::new(),
            String::new()
        )
        .is_err()
    );
}
