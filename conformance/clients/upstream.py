"""An OpenAI-compatible upstream that follows a script: for what the demonstration model cannot do.

Standard library only. Prints its URL, then serves until it is killed. It calls the tool that it is
given, fills in the JSON schema that it is given, and counts callers that left before the end.
A prompt that says "slowly" is answered at ten tokens a second; one that says "fail" with 500.
Three prompts break a stream after two words: "break off" closes the connection, which over HTTP is
an end like any other, "stall" holds it and sends nothing more, "garbled" sends an event that is no
JSON and then ends as usual.
"""

import base64
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "scripted"
WORDS = ["the ", "answer ", "is ", "seven"]
left = 0
lock = threading.Lock()


def instance(schema):
    """The smallest value that a schema allows, as far as these tests go."""
    kind = schema.get("type", "object")
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {name: instance(of) for name, of in schema.get("properties", {}).items()}
    return {"string": "seven", "integer": 7, "number": 7.5, "boolean": True, "array": [], "null": None}[kind]


def logprobs(words):
    return {"content": [{"token": w, "logprob": -0.5, "bytes": list(w.encode()),
                         "top_logprobs": [{"token": w, "logprob": -0.5, "bytes": list(w.encode())}]} for w in words]}


def break_in(prompt):
    return next((how for how in ("break off", "stall", "garbled") if how in json.dumps(prompt)), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def plain(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, events, pause=0.0, done=True):
        global left
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for event in events:
                name = f"event: {event['type']}\n" if "type" in event else ""
                self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                time.sleep(pause)
            if done:
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            with lock:
                left += 1

    def broken(self, events, how):
        """The events up to the second word, and then what the prompt says."""
        for event in events:
            yield event
            if WORDS[1] in json.dumps(event):
                break
        if how == "stall":
            self.rfile.read(1)  # There is nothing to read: this ends when the caller hangs up.
        elif how == "garbled":
            self.wfile.write(b'data: {"choices": [\n\n')

    def do_GET(self):
        if self.path == "/v1/models":
            self.plain({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "test"}]})
        elif self.path == "/left":
            self.plain({"left": left})
        else:
            self.plain({"error": {"message": "no such path", "type": "invalid_request_error"}}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions":
            self.chat(asked)
        elif self.path == "/v1/embeddings":
            self.embeddings(asked)
        elif self.path == "/v1/responses":
            self.make_response(asked)
        else:
            self.plain({"error": {"message": "no such path", "type": "invalid_request_error"}}, 404)

    def chat(self, asked):
        last = asked["messages"][-1]
        text = json.dumps(last.get("content") or "")
        if "fail" in text:
            return self.plain({"error": {"message": "made to fail", "type": "server_error", "code": None}}, 500)
        message = {"role": "assistant", "content": "".join(WORDS)}
        finish = "stop"
        words = list(WORDS) * (50 if "slowly" in text else 1)
        tools = asked.get("tools")
        form = asked.get("response_format") or {}
        if tools and last["role"] != "tool":
            function = tools[0]["function"]
            arguments = json.dumps(instance(function["parameters"]))
            call = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            finish = "tool_calls"
        elif form.get("type") == "json_schema":
            message["content"] = json.dumps(instance(form["json_schema"]["schema"]))
            words = [message["content"]]
        usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
        base = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choices = [{"index": i, "message": message, "finish_reason": finish,
                        "logprobs": logprobs(words) if asked.get("logprobs") else None} for i in range(asked.get("n") or 1)]
            return self.plain({**base, "object": "chat.completion", "choices": choices, "usage": usage})

        def chunk(delta, finish=None, lp=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": lp}
            return {**base, "object": "chat.completion.chunk", "choices": [choice]}

        def chunks():
            yield chunk({"role": "assistant", "content": None if tools else ""})
            if message.get("tool_calls"):
                call = message["tool_calls"][0]
                head = {**call, "index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}
                yield chunk({"tool_calls": [head]})
                arguments = call["function"]["arguments"]
                for piece in (arguments[:3], arguments[3:]):
                    yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            else:
                for word in words:
                    yield chunk({"content": word}, lp=logprobs([word]) if asked.get("logprobs") else None)
            yield chunk({}, finish)
            if (asked.get("stream_options") or {}).get("include_usage"):
                yield {**base, "object": "chat.completion.chunk", "choices": [], "usage": usage}

        how = break_in(text)
        events = self.broken(chunks(), how) if how else chunks()
        self.events(events, 0.1 if "slowly" in text else 0.0, done=how in (None, "garbled"))

    def embeddings(self, asked):
        given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        vector = [0.25, -0.5, 1.0]
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(given))]
        self.plain({"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    def make_response(self, asked):
        text = {"type": "output_text", "text": "".join(WORDS), "annotations": [], "logprobs": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9, "input_tokens_details": {"cached_tokens": 0},
                 "output_tokens_details": {"reasoning_tokens": 0}}
        whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": asked["model"], "status": "completed",
                 "output": [item], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                 "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0}
        if not asked.get("stream"):
            return self.plain(whole)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        events = [{"type": "response.created", "response": begun},
                  {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
                  {"type": "response.content_part.added", **at, "part": {**text, "text": ""}}]
        events += [{"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in WORDS]
        events += [{"type": "response.output_text.done", **at, "text": text["text"], "logprobs": []},
                   {"type": "response.content_part.done", **at, "part": text},
                   {"type": "response.output_item.done", "output_index": 0, "item": item},
                   {"type": "response.completed", "response": whole}]
        numbered = ({**event, "sequence_number": n} for n, event in enumerate(events))
        how = break_in(asked["input"])
        self.events(self.broken(numbered, how) if how else numbered, done=False)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(f"upstream  http://127.0.0.1:{server.server_port}/v1", flush=True)
server.serve_forever()
