"""Qdrant on loopback: its own engine (qdrant-edge), behind the part of its REST interface that an index needs.

The server itself is in no package registry. What is ours here is only the way from a request to the engine; bodies are
read by the models of Qdrant's own client, which refuse what the interface does not have.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import qdrant_edge as engine
from pydantic import TypeAdapter
from qdrant_client import models

from pipeline.indexes.qdrant import _server
from tests.support.loopback import answering

_Points = TypeAdapter[models.PointInsertOperations](models.PointInsertOperations)
_Selector = TypeAdapter[models.PointsSelector](models.PointsSelector)


class RefusedError(Exception):
    """What the server answers instead of a result."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Qdrant:
    """The server's collections; `key`, where it asks for one, and `answers` may be changed while it runs.

    Attributes:
        status: Answered to everything instead of a result, when it is not None.
        seen: Method and path of every request.
    """

    folder: Path
    url: str = ""
    key: str | None = None
    status: int | None = None
    shards: dict[str, engine.EdgeShard] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def points(self) -> set[int]:
        """Ids in all collections."""
        every = (shard.scroll(engine.ScrollRequest(limit=1_000_000))[0] for shard in self.shards.values())
        return {int(str(point.id)) for points in every for point in points}

    def optimize(self) -> None:
        """Let the engine build its HNSW now; a server does it by and by."""
        for shard in self.shards.values():
            shard.optimize()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> object:
        """The result of a request.

        Raises:
            RefusedError: the interface says so.
        """
        if self.status is not None:
            raise RefusedError(self.status, "told so")
        if self.key is not None and headers.get("api-key") != self.key:
            raise RefusedError(401, "Must provide an API key or an Authorization bearer token")
        for wanted, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == wanted:
                return handle(self, found[1], body)
        raise RefusedError(404, f"this stand-in has no {method} {path}")

    def shard(self, name: str) -> engine.EdgeShard:
        if name not in self.shards:
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.shards[name]

    def exists(self, name: str, _: Any) -> object:
        return {"exists": name in self.shards}

    def create(self, name: str, body: Any) -> object:
        wanted = models.CreateCollection.model_validate(body).vectors
        assert isinstance(wanted, models.VectorParams)
        if name in self.shards:
            raise RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        distance = getattr(engine.Distance, wanted.distance.value)
        vectors = engine.EdgeVectorParams(wanted.size, distance)
        # As large as it takes for the engine to build a graph in a test; a server starts at 10,000 KB.
        optimizers = engine.EdgeOptimizersConfig(indexing_threshold=1000)
        path = self.folder / f"{name}-{len(self.seen)}"
        path.mkdir(parents=True)
        self.shards[name] = engine.EdgeShard.create(
            str(path), engine.EdgeConfig(vectors=vectors, optimizers=optimizers)
        )
        return True

    def delete(self, name: str, _: Any) -> object:
        return self.shards.pop(name, None) is not None

    def upsert(self, name: str, body: Any) -> object:
        wanted = _Points.validate_python(body)
        assert isinstance(wanted, models.PointsBatch)
        assert isinstance(wanted.batch.vectors, list)
        pairs = zip(wanted.batch.ids, wanted.batch.vectors, strict=True)
        points = [engine.Point(int(str(point)), vector) for point, vector in pairs]  # type: ignore[arg-type]
        self.shard(name).update(engine.UpdateOperation.upsert_points(points))
        return {"operation_id": 1, "status": "completed"}

    def remove(self, name: str, body: Any) -> object:
        wanted = _Selector.validate_python(body)
        assert isinstance(wanted, models.PointIdsList)
        self.shard(name).update(engine.UpdateOperation.delete_points([int(str(point)) for point in wanted.points]))
        return {"operation_id": 1, "status": "completed"}

    def query(self, name: str, body: Any) -> object:
        wanted = models.QueryRequest.model_validate(body)
        assert isinstance(wanted.query, models.NearestQuery)
        assert isinstance(wanted.query.nearest, list)
        assert wanted.limit is not None
        assert wanted.params is not None
        request = engine.QueryRequest(
            limit=wanted.limit,
            query=engine.Query.Nearest(wanted.query.nearest),
            params=engine.SearchParams(hnsw_ef=wanted.params.hnsw_ef),
        )
        hits = self.shard(name).query(request)
        return {"points": [{"id": hit.id, "version": 0, "score": hit.score} for hit in hits]}

    def count(self, name: str, body: Any) -> object:
        wanted = models.CountRequest.model_validate(body)
        return {"count": self.shard(name).count(engine.CountRequest(exact=bool(wanted.exact)))}

    def scroll(self, name: str, body: Any) -> object:
        wanted = models.ScrollRequest.model_validate(body)
        offset = None if wanted.offset is None else int(str(wanted.offset))
        points, following = self.shard(name).scroll(engine.ScrollRequest(limit=wanted.limit, offset=offset))
        return {"points": [{"id": point.id} for point in points], "next_page_offset": following}


_NAME = r"/collections/([^/]+)"
_ROUTES: tuple[tuple[str, str, Callable[[Qdrant, str, Any], object]], ...] = (
    ("GET", f"{_NAME}/exists", Qdrant.exists),
    ("PUT", _NAME, Qdrant.create),
    ("DELETE", _NAME, Qdrant.delete),
    ("PUT", f"{_NAME}/points", Qdrant.upsert),
    ("POST", f"{_NAME}/points/delete", Qdrant.remove),
    ("POST", f"{_NAME}/points/query", Qdrant.query),
    ("POST", f"{_NAME}/points/count", Qdrant.count),
    ("POST", f"{_NAME}/points/scroll", Qdrant.scroll),
)


def _result(qdrant: Qdrant, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, object]:
    with qdrant.lock:
        qdrant.seen.append((method, path))
        try:
            result = qdrant.answer(method, path.partition("?")[0], headers, json.loads(body) if body else None)
        except RefusedError as refused:
            return refused.status, {"status": {"error": str(refused)}, "time": 0.0}
        return 200, {"result": result, "status": "ok", "time": 0.0}


@contextmanager
def qdrant_on_loopback(folder: Path) -> Iterator[Qdrant]:
    qdrant = Qdrant(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, result = _result(qdrant, self.command, self.path, dict(self.headers), body)
            content = json.dumps(result).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    with answering(Handler) as qdrant.url:
        try:
            yield qdrant
        finally:
            _server.cache_clear()  # clients say good-bye before the server goes
