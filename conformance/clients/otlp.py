"""A receiver of traces that reads them with OpenTelemetry's own messages (`opentelemetry-proto`).

Prints its URL, then serves until it is killed. What was posted to /v1/traces is read back at /spans
as JSON; a message with a field that those messages do not have is refused.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

spans = []
lock = threading.Lock()


def unknown(message):
    """Whether a message, or one inside it, has a field that nobody knows."""
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if any(unknown(inner) for inner in (value if field.is_repeated else [value])):
            return True
    return False


def plain(value):
    kind = value.WhichOneof("value")
    inner = getattr(value, kind)
    return [plain(one) for one in inner.values] if kind == "array_value" else inner


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}


def read(body):
    request = ExportTraceServiceRequest.FromString(body)
    assert not unknown(request), request
    for of_resource in request.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind),
                    "status": Status.StatusCode.Name(span.status.code),
                    "nanoseconds": span.end_time_unix_nano - span.start_time_unix_nano,
                    "flags": span.flags,
                    "attributes": attributes(span.attributes),
                    "resource": attributes(of_resource.resource.attributes),
                    "scope": of_scope.scope.name,
                    "schema": of_scope.schema_url,
                }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        protobuf = "application/x-protobuf"
        if self.path != "/v1/traces" or self.headers["content-type"] != protobuf:
            return self.answer(415, "text/plain", b"not traces in protobuf")
        with lock:
            spans.extend(read(body))
        self.answer(200, protobuf, ExportTraceServiceResponse().SerializeToString())

    def do_GET(self):
        with lock:
            body = json.dumps(spans).encode()
        self.answer(200, "application/json", body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"receiver http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
