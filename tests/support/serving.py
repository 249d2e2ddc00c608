"""`celeriac serve` in a process of its own, as people run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.servers import free_port


@contextmanager
def serving(
    env: dict[str, str], folder: Path, *options: str, port: int = 0
) -> Iterator[tuple[httpx.Client, dict[str, Any], Path]]:
    """`celeriac serve` in its own process: a client, what it printed, and its log; Ctrl-C must end all of it."""
    port = port or free_port()
    line = [sys.executable, "-m", "celeriac", "serve", "--port", str(port), "--json", *options]
    log = folder / "serve.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    family: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, log.read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield http, json.loads(told), log
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
    _, alive = psutil.wait_procs(family, 10)
    assert not alive, [member.cmdline() for member in alive]
