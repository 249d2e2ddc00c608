"""Processes of the engine that are born with their libraries loaded.

A worker spends three seconds of processor time on imports. A storm that kills one every few seconds, or a suite that
starts a hundred, would measure little else on two cores. So they are forked from a process that has imported what
they need, and nothing that belongs to a deployment: no settings, no steps, no application, no connection.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from workflows.stack.processes import dies_with_parent

LIBRARIES = (
    "workflows.engine.worker",
    "pipeline.steps",
    "api.application",
    "celery.__main__",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.backends.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "uvicorn.__main__",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)


@dataclass(frozen=True)
class Child:
    """A process that was born here. Nobody has to wait for its end: its parent does."""

    process: psutil.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_ended(self) -> bool:
        """Whether it is gone."""
        with suppress(psutil.NoSuchProcess):
            return bool(self.process.status() == psutil.STATUS_ZOMBIE)
        return True


class Nursery:
    """`bear` gives processes; they end with the nursery, which ends when its owner does, however that happens.

    Args:
        env: Environment of all of them, as the kernel shows it to others.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            env=dict(env), cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._parent.pid

    def bear(self, module: str, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> Child:
        """`python -m MODULE ARGUMENTS`, with more variables in its environment, and its output added to `log`."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        wish = {"module": module, "arguments": list(arguments), "log": str(log), "variables": dict(variables)}
        self._parent.stdin.write(json.dumps(wish).encode() + b"\n")
        self._parent.stdin.flush()
        return Child(psutil.Process(int(self._parent.stdout.readline())))

    def close(self) -> None:
        """No more births."""
        self._parent.kill()
        self._parent.wait()


def _main() -> None:
    """Fork for each line of standard input."""
    for library in LIBRARIES:
        __import__(library)
    end_with_nursery = dies_with_parent()
    # The kernel buries the dead.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        wish = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(wish, end_with_nursery)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _live(wish: dict[str, object], end_with_nursery: Callable[[], None] | None) -> None:
    """What a newborn does until its end."""
    code = 1
    try:
        if end_with_nursery is not None:
            end_with_nursery()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        descriptor = os.open(str(wish["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ.update(wish["variables"])  # type: ignore[call-overload]
        random.seed()
        tempfile.tempdir = None
        sys.argv = [str(wish["module"]), *wish["arguments"]]  # type: ignore[misc]
        runpy.run_module(str(wish["module"]), run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as the nursery
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()  # What it has registered, as temporary folders to remove.
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main()
