"""The programs of an installation as services of `workflows.stack.services`: worker, Beat, Flower, API."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from workflows.model.errors import CeleriacError
from workflows.settings import Config
from workflows.stack.services import Service, python

PROJECT = Path(__file__).resolve().parents[1]
"""Where `celery_app.py` lies: beside the packages, installed or not."""

WORKER_GRACE_SECONDS = 30.0
"""How long steps in progress may go on when workers are stopped."""


def worker_service(number: int, concurrency: int | None, loglevel: str, *, events: bool = False) -> Service:
    """A worker that takes from all queues; with `events` it tells Flower what it does."""
    command = python("celery", "-A", "celery_app", "worker", "--pool", "prefork", "--loglevel", loglevel)
    command += ["--hostname", f"worker{number}-{os.getpid()}@%h"] + ["-E"] * events
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    return Service(f"worker {number}", command, grace_seconds=WORKER_GRACE_SECONDS)


def beat_service(loglevel: str) -> Service:
    """The scheduler."""
    command = python("celery", "-A", "celery_app", "beat", "--loglevel", loglevel)
    return Service("beat", [*command, "--pidfile", ""])


def flower_service(port: int) -> Service:
    """Flower, for this machine only: it has no password."""
    return Service("flower", python("celery", "-A", "celery_app", "flower", f"--port={port}", "--address=127.0.0.1"))


def api_service(port: int, *, host: str = "127.0.0.1", reload: bool = False) -> Service:
    """The API; with `reload` it starts anew when code changes."""
    if not reload:
        return Service("api", python("celeriac", "serve", "--host", host, "--port", str(port)))
    command = python("uvicorn", "api.server:app", "--host", host, "--port", str(port))
    folders = [word for name in ("api", "workflows", "pipeline") for word in ("--reload-dir", str(PROJECT / name))]
    return Service("api", [*command, "--reload", *folders, "--timeout-graceful-shutdown", "5"])


def check_port(port: int, host: str = "127.0.0.1") -> None:
    """Refuse a port that somebody listens on, or an address that is none of this machine's.

    Raises:
        CeleriacError: it cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise CeleriacError(f"'{host}' is no address of this machine: {error}", "use --host 127.0.0.1") from error
    except PermissionError as error:
        raise CeleriacError(f"port {port} may not be used: {error}", "choose one above 1023") from error
    except OSError as error:
        raise CeleriacError(
            f"port {port} is in use, or {host} is not of this machine",
            "end what uses it, or choose another with --port",
        ) from error


def environment(config: Config) -> dict[str, str]:
    """Environment of children, wherever they run: relative paths are those of this process."""
    paths = [str(PROJECT), *filter(None, config.env.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **config.env,
        "CELERIAC_HOME": str(config.home),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
    }
