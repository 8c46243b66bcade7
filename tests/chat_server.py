"""A real server on loopback that speaks as OpenAI's does and streams; the model's name says how it behaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

PIECES = ["You ", "love ", "hiking ", "[1]."]


class StreamingServer:
    """good: streams PIECES; breaks: closes after two of them; says why: sends an error after two; hangs: waits after
    two; whole: answers at once, with no stream; odd: answers what is no answer. `asked` is what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.halfway, self.go_on = Event(), Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(question)
                model = question["model"]
                self.send_response(200)
                if model in ("whole", "odd"):
                    message = {"choices": [{"message": {"content": "".join(PIECES)}}]} if model == "whole" else {"a": 1}
                    self.send_header("Content-Type", "application/json")
                    self.end_headers()
                    self.wfile.write(json.dumps(message).encode())
                    return
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for number, piece in enumerate(PIECES):
                    if number == 2:
                        outer.halfway.set()
                        if model == "says why":
                            self.event({"error": {"message": "out of memory"}})
                        if model in ("breaks", "says why"):
                            return
                        if model == "hangs":
                            outer.go_on.wait(30)
                    self.event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]})
                self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
                self.wfile.write(b"data: [DONE]\n\n")

            def event(self, said: object) -> None:
                self.wfile.write(f": a comment\n\ndata: {json.dumps(said)}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *said: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *about: None  # type: ignore[method-assign]  # who asked is gone
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def spec(self, model: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1#{model}"

    def told(self) -> str:
        """All that it was told the last time."""
        return "\n".join(message["content"] for message in self.asked[-1]["messages"])


@contextmanager
def streaming_server() -> Iterator[StreamingServer]:
    running = StreamingServer()
    try:
        yield running
    finally:
        running.go_on.set()
        running.server.shutdown()
        running.server.server_close()
