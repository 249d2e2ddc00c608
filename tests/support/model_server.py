"""A server that runs the bundled model behind `POST /v1/embeddings`, and misbehaves when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from pipeline import models
from tests.support.loopback import answering


@dataclass
class Answer:
    """What is answered instead of vectors."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which the connection is closed."""


class ModelServer:
    """What was asked, and what is answered before vectors are."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answers: list[Answer] = []
        self.url = ""

    def texts(self) -> list[str]:
        """All texts that it was given, in order."""
        return [text for asked in self.seen for text in asked["input"]]


@contextmanager
def model_server() -> Iterator[ModelServer]:
    told = ModelServer()
    encoder = models.bundled().load()
    lock = threading.Lock()

    def vectors(texts: list[str]) -> bytes:
        with lock:
            found = encoder.embed(texts)
        rows = [{"object": "embedding", "index": n, "embedding": row.tolist()} for n, row in enumerate(found)]
        rows.reverse()  # an order that no client may rely on
        tokens = sum(encoder.count_tokens(text) + 2 for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json.dumps({"object": "list", "data": rows, "model": "served", "usage": usage}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.seen.append({**asked, "path": self.path})
            told.keys.append(self.headers.get("Authorization"))
            answer = told.answers.pop(0) if told.answers else Answer(200, vectors(asked["input"]))
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut_after])

    with answering(Handler) as address:
        told.url = f"{address}/v1"
        yield told
