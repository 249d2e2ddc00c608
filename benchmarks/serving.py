"""The API as it is deployed, in a process of its own, beside a cluster that a benchmark has made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.cluster import PROJECT, Cluster
from tests.support.servers import free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Api:
    """An API that answers.

    Attributes:
        log: Of its process; an object for each request when the cluster's settings ask for JSON.
    """

    url: str
    http: httpx.Client
    log: Path

    def requests(self) -> list[dict[str, object]]:
        """What it logged of each request."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["logger"] == "celeriac.access"]


@contextmanager
def api_of(engine: Cluster, loglevel: str = "WARNING") -> Iterator[Api]:
    """Serve the cluster's database and broker while inside."""
    port, log = free_port(), engine.folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "serve", "--port", str(port), "--loglevel", loglevel],
            env=engine.env,
            cwd=PROJECT,
            stdout=output,
            stderr=output,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                wait_until(lambda: process.poll() is not None or _answers(http), 90, "the API")
                assert process.poll() is None, log.read_text()
                yield Api(f"http://127.0.0.1:{port}", http, log)
        finally:
            process.terminate()
            process.wait(20)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
