"""The unmodified `openai` package for Python: tools, schemas, logprobs, errors, leaving, broken
streams, a crowd.

Usage: openai_full.py GATEWAY_URL UPSTREAM_URL KEY LIMITED_KEY. One line a check; exits 1 at the
first failure. LIMITED_KEY allows one call a minute and the model "scripted" alone. The gateway waits
only seconds for the next piece of a stream of the model "impatient".
"""

import json
import sys
import threading
import time
import urllib.request

import openai
from pydantic import BaseModel

gateway, upstream, key, limited_key = sys.argv[1:5]
client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0, timeout=60)
question = [{"role": "user", "content": "What is 3 + 4?"}]
ask = dict(model="scripted", messages=question)


def check(name, truth):
    print(f"{'ok    ' if truth else 'FAILED'} {name}", flush=True)
    if not truth:
        sys.exit(1)


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    except Exception as error:
        check(f"{kind.__name__}, but it is {error!r}", False)
    check(f"{kind.__name__}, but nothing was raised", False)


tool = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}
called = client.chat.completions.create(**ask, tools=[tool]).choices[0]
check("tools: the call comes whole", json.loads(called.message.tool_calls[0].function.arguments) == {"a": 7, "b": 7})
check("tools: the finish reason", called.finish_reason == "tool_calls")
answered = client.chat.completions.create(model="scripted", tools=[tool], messages=question + [
    called.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": "call_1", "content": "7"}])
check("tools: the result goes back", answered.choices[0].message.content == "the answer is seven")
pieces = [c.choices[0].delta.tool_calls[0] for c in client.chat.completions.create(**ask, tools=[tool], stream=True)
          if c.choices and c.choices[0].delta.tool_calls]
check("tools: streamed in pieces", json.loads("".join(p.function.arguments or "" for p in pieces)) == {"a": 7, "b": 7})


class Sum(BaseModel):
    total: int
    words: str


parsed = client.chat.completions.parse(**ask, response_format=Sum).choices[0].message.parsed
check("schema: parsed into a model", parsed == Sum(total=7, words="seven"))
scored = client.chat.completions.create(**ask, logprobs=True, top_logprobs=1).choices[0].logprobs
check("logprobs: one entry a token", [t.token for t in scored.content] == ["the ", "answer ", "is ", "seven"])
scored = [c.choices[0].logprobs for c in client.chat.completions.create(**ask, logprobs=True, stream=True) if c.choices]
check("logprobs: streamed", sum(len(s.content) for s in scored if s) == 4)
check("n: three choices", len(client.chat.completions.create(**ask, n=3).choices) == 3)
odd = client.chat.completions.with_raw_response.create(**ask, extra_body={"x_unknown": {"deep": [1, 2.50]}})
check("unknown fields are no mistake", odd.status_code == 200)

wrong = openai.OpenAI(base_url=f"{gateway}/v1", api_key="sk-longrun-nobody", max_retries=0)
error = refused(openai.AuthenticationError, lambda: wrong.chat.completions.create(**ask))
check("errors: a wrong key is AuthenticationError", error.code == "invalid_api_key" and "nobody" not in str(error))
error = refused(openai.NotFoundError, lambda: client.chat.completions.create(model="no-such", messages=question))
check("errors: an unknown model is NotFoundError", error.code == "model_not_found")
error = refused(openai.BadRequestError, lambda: client.chat.completions.create(model="scripted", messages=17))
check("errors: a wrong type is BadRequestError", "messages" in str(error))
failing = [{"role": "user", "content": "fail"}]
error = refused(openai.InternalServerError, lambda: client.chat.completions.create(model="scripted", messages=failing))
check("errors: the endpoint's failure keeps its status", error.status_code == 500)

limited = openai.OpenAI(base_url=f"{gateway}/v1", api_key=limited_key, max_retries=0)
first = limited.chat.completions.with_raw_response.create(**ask)
check("limits: told in headers", first.headers["x-ratelimit-limit-requests"] == "1"
      and first.headers["x-ratelimit-remaining-requests"] == "0")
error = refused(openai.RateLimitError, lambda: limited.chat.completions.create(**ask))
check("limits: RateLimitError with a time to wait", error.code == "rate_limit_exceeded"
      and 0 < int(error.response.headers["retry-after"]) <= 60)
error = refused(openai.PermissionDeniedError, lambda: limited.chat.completions.create(model="other", messages=question))
check("limits: another model is PermissionDeniedError", error.code == "model_not_allowed")
call = first.headers["x-longrun-call"]


def status(path, with_key):
    request = urllib.request.Request(f"{gateway}{path}", headers={"authorization": f"Bearer {with_key}"})
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


check("calls: whoever made it opens it", status(f"/longrun/v1/calls/{call}", limited_key) in (200, 202))
check("calls: nobody else does", status(f"/longrun/v1/calls/{call}", key) == 404)

slowly = [{"role": "user", "content": "slowly"}]
with client.chat.completions.create(model="scripted", messages=slowly, stream=True) as stream:
    next(iter(stream))
deadline = time.monotonic() + 60
while json.load(urllib.request.urlopen(upstream.removesuffix("/v1") + "/left"))["left"] < 1:
    if time.monotonic() > deadline:
        check("leaving: the endpoint is let go of", False)
    time.sleep(0.1)
check("leaving: the endpoint is let go of", True)


def read(prompt, words):
    messages = [{"role": "user", "content": prompt}]
    for chunk in client.chat.completions.create(model="impatient", messages=messages, stream=True):
        words.append(chunk.choices[0].delta.content)


for prompt, code in {"break off": "answer_cut", "stall": "timeout", "garbled": "upstream_error"}.items():
    words = []
    error = refused(openai.APIError, lambda: read(prompt, words))
    check(f"{prompt}: after its two words the stream raises APIError, {code}",
          error.code == code and "".join(words) == "the answer ")

failures = []


def one(i):
    try:
        if i % 2:
            text = client.chat.completions.create(**ask).choices[0].message.content
        else:
            chunks = client.chat.completions.create(**ask, stream=True)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        if text != "the answer is seven":
            failures.append(text)
    except Exception as error:
        failures.append(repr(error))


threads = [threading.Thread(target=one, args=(i,)) for i in range(50)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check(f"fifty at once {failures[:2]}", not failures)
