"""Where the parts of a home's stack lie, and the state that its supervisor tells."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from workflows.model.errors import BrokerUnavailableError

Phase = Literal["starting", "running", "stopping"]

_LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel takes 107 (Linux) or 103 (macOS) and truncates or refuses the rest."""


class StackError(BrokerUnavailableError):
    """The embedded broker and worker cannot be brought up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Places:
    """All paths of the stack of one home."""

    home: Path

    @property
    def root(self) -> Path:
        """Folder of all the rest but the logs."""
        return self.home / "stack"

    @property
    def lock(self) -> Path:
        """Held by the supervisor, exclusively: there is one for each home."""
        return self.root / "lock"

    @property
    def children_lock(self) -> Path:
        """Held by broker and worker processes, shared: free only when all of them are gone."""
        return self.root / "children.lock"

    @property
    def users(self) -> Path:
        """One locked file for each user."""
        return self.root / "users"

    @property
    def state(self) -> Path:
        """What the supervisor tells (`StackState`)."""
        return self.root / "state.json"

    @property
    def data(self) -> Path:
        """The broker's append-only file."""
        return self.root / "data"

    def log(self, name: str) -> Path:
        """Log of `supervisor`, `broker` or `worker`."""
        return self.home / "logs" / f"{name}.log"

    def socket(self) -> Path:
        """Path of the broker's socket, short enough for the kernel however deep the home lies."""
        path = self.root / "broker.sock"
        if len(os.fsencode(path)) < _LONGEST_SOCKET_PATH:
            return path
        name = f"celeriac-{os.getuid()}-{hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:16]}"
        folder = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(folder / "broker.sock")) >= _LONGEST_SOCKET_PATH:
            folder = Path("/tmp") / name  # noqa: S108 - private_folder() refuses one that is not ours
        return folder / "broker.sock"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.root, self.users, self.data, self.log("broker").parent):
            folder.mkdir(parents=True, exist_ok=True)
        private_folder(self.root)


def private_folder(path: Path) -> None:
    """Make a folder that only its owner enters: who reaches the socket commands the workers.

    Raises:
        StackError: a folder of that name exists and belongs to someone else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StackError(f"{path} is not a folder of your own", "remove it, or choose another CELERIAC_HOME or TMPDIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def broker_url(socket: Path) -> str:
    """URL of the broker behind a unix socket, as kombu and Celery read it."""
    return f"redis+socket://{quote(str(socket))}?virtual_host=0"


@dataclass(frozen=True, slots=True)
class Started:
    """A process, told apart from a later one with the same number by its time of creation (seconds since 1970)."""

    pid: int
    created: float


@dataclass(frozen=True, slots=True)
class StackState:
    """What a supervisor tells of itself; true while it holds its lock.

    Attributes:
        slots: Processes of the worker that work at the same time.
        database: Which database the worker works on; a hash, for the URL may hold a password.
        step_modules: What the worker has loaded beside the installed steps.
        broker: None while it is down.
        worker: None while it is down.
        broker_starts: 1 in an undisturbed life; each restart adds one.
    """

    phase: Phase
    supervisor_pid: int
    socket: str
    slots: int
    database: str = ""
    step_modules: tuple[str, ...] = ()
    broker: Started | None = None
    worker: Started | None = None
    broker_starts: int = 0
    worker_starts: int = 0

    def write(self, path: Path) -> None:
        """Replace the file in one move: a reader sees the old state or the new."""
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> StackState | None:
        """The state as last told; None when there is none."""
        try:
            value: dict[str, Any] = json.loads(path.read_text())
            children = {name: value[name] and Started(**value[name]) for name in ("broker", "worker")}
            return cls(**{**value, **children, "step_modules": tuple(value["step_modules"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # absent, or of another release
            return None
