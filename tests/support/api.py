"""The API on a real port, as uvicorn serves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from api.application import create_app
from tests.support.cluster import Cluster
from tests.support.servers import free_port
from tests.support.waiting import wait_until
from workflows.settings import Config

DEFINITIONS = {
    "pair": """
        id: pair
        params: {ms: {type: integer, minimum: 0, default: 0}, force_reprocess: {type: boolean, default: false}}
        steps:
          a: {uses: ledger.nap, with: {node: a, ms: "${{ params.ms }}"}}
          b: {needs: a, uses: ledger.nap, with: {node: b, ms: "${{ params.ms }}"}}
        outputs: {last: "${{ steps.b.output.node }}"}
        """,
    "doubles": """
        id: doubles
        params: {num: {type: integer, default: 12}, fail_on: {type: array, items: {type: integer}, default: []}}
        steps:
          list: {uses: ledger.numbers, with: {num: "${{ params.num }}"}}
          double:
            uses: ledger.double
            for_each: {items: "${{ steps.list.output.values }}", key: "n${{ item }}"}
            with: {num: "${{ item }}", fail_on: "${{ params.fail_on }}"}
          sum: {uses: ledger.sum, with: {values: "${{ steps.double.outputs.num }}"}}
        """,
    "patient": """
        id: patient
        steps:
          wait: {uses: ledger.wait_for_cancel, with: {node: patient}}
          after: {needs: wait, uses: ledger.nap, with: {node: after}}
        """,
    "hopeless": """
        id: hopeless
        steps:
          ok: {uses: ledger.nap, with: {node: ok}}
          fails: {needs: ok, uses: ledger.fail, with: {node: hopeless, times: 1, permanent: true}}
          after: {needs: fails, uses: ledger.nap, with: {node: after}}
        """,
    "broken": """
        id: broken
        steps:
          a: {uses: ledger.nop, needs: [z]}
        """,
}


def write_definitions(folder: Path) -> Path:
    """A folder with the definitions of these tests."""
    folder.mkdir()
    for name, text in DEFINITIONS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@dataclass(frozen=True)
class Served:
    """A server that answers.

    Attributes:
        http: A client whose paths begin at its root.
    """

    app: FastAPI
    url: str
    http: httpx.Client
    _server: uvicorn.Server

    def tasks(self) -> int:
        """How many tasks its event loop has."""
        return len(asyncio.all_tasks(self._server.servers[0].get_loop()))


@dataclass(frozen=True)
class Live:
    """An API and the cluster behind it."""

    api: Served
    cluster: Cluster


@contextmanager
def served(env: Mapping[str, str]) -> Iterator[Served]:
    """Serve the API with these settings while inside."""
    app = create_app(Config.from_env(env))
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), 20, "the API")
    assert server.started
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30) as http:
            yield Served(app, url, http, server)
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "the API does not stop"
