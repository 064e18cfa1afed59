"""The unmodified `openai` package for Python against a Longrun gateway.

Usage: openai_client.py BASE_URL MODEL. Prints one line a check and exits 1 at the first failure.
"""

import sys
import threading

import openai

base_url, model = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=base_url, api_key="not-needed", max_retries=0, timeout=60)
question = [{"role": "user", "content": "What is 3 + 4?"}]


def check(name, truth):
    if not truth:
        print(f"FAILED {name}", flush=True)
        sys.exit(1)
    print(f"ok     {name}", flush=True)


answer = client.chat.completions.create(model=model, messages=question, temperature=0)
check("chat: an answer", bool(answer.choices[0].message.content))
check("chat: role", answer.choices[0].message.role == "assistant")
check("chat: finish reason", answer.choices[0].finish_reason in ("stop", "length"))
check("chat: usage adds up", answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens)
check("chat: the call is named", len(answer.model_extra["longrun"]["call"]) == 32)

raw = client.chat.completions.with_raw_response.create(model=model, messages=question)
check("chat: header names the call", raw.headers["x-longrun-call"] == raw.parse().model_extra["longrun"]["call"])

stream = client.chat.completions.create(
    model=model, messages=question, temperature=0, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
check("stream: the same text as without", text == answer.choices[0].message.content)
check("stream: one finish reason", sum(bool(c.choices and c.choices[0].finish_reason) for c in chunks) == 1)
check("stream: usage in the last chunk", chunks[-1].usage is not None and not chunks[-1].choices)

scored = client.chat.completions.create(
    model=model, messages=question, temperature=0, logprobs=True, top_logprobs=3, max_tokens=4
)
tokens = scored.choices[0].logprobs.content
check("logprobs: one entry a token", len(tokens) == scored.usage.completion_tokens)
check("logprobs: three alternatives", all(len(t.top_logprobs) == 3 for t in tokens))
check("logprobs: greedy takes the best", all(abs(t.logprob - t.top_logprobs[0].logprob) < 1e-6 for t in tokens))
check("logprobs: not above zero", all(t.logprob <= 0 for t in tokens))

same = [
    client.chat.completions.create(model=model, messages=question, temperature=1, seed=7, max_tokens=12)
    .choices[0].message.content
    for _ in range(2)
]
check("seed: the same node or twin gives text", all(isinstance(s, str) for s in same))

stopped = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "Repeat: red blue green"}], temperature=0, stop=["blue"]
)
check("stop: the sequence is not in the text", "blue" not in (stopped.choices[0].message.content or ""))

try:
    client.chat.completions.create(model="no-such-model", messages=question)
    check("error: unknown model is refused", False)
except openai.NotFoundError as error:
    check("error: unknown model is 404", error.status_code == 404)
    check("error: has a code", error.code == "model_not_found")
    check("error: says which models there are", model in str(error))

try:
    client.chat.completions.create(model=model, messages="hello")
    check("error: wrong type is refused", False)
except openai.BadRequestError as error:
    check("error: wrong type names the field", "messages" in str(error) and error.type == "invalid_request_error")

check("models: lists the model", model in [m.id for m in client.models.list().data])

failures = []


def one(i):
    try:
        out = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"What is {i % 10} + 2?"}], max_tokens=8
        )
        if out.choices[0].message.role != "assistant":
            failures.append("role")
    except openai.APIStatusError as error:
        if error.status_code not in (429, 503):
            failures.append(repr(error))
    except Exception as error:
        failures.append(repr(error))


threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
for t in threads:
    t.start()
for t in threads:
    t.join()
check(f"twenty at once: answered or told to come back {failures[:2]}", not failures)

with client.chat.completions.create(model=model, messages=question, stream=True) as partial:
    next(iter(partial))
check("cancel: the client may leave mid-stream", True)
check("cancel: the gateway still answers", bool(client.models.list().data))
