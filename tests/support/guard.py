"""Runs a server for as long as somebody holds a lock: `python -m tests.support.guard LOCK FOLDER USER COMMAND...`.

The tests hold LOCK shared. The kernel frees it however they end, kill -9 included; then the server is killed and
FOLDER removed. If the guard itself is killed, the kernel takes the server down with it. USER is `-` or a name.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from workflows.stack.processes import dies_with_parent


def main(lock: str, folder: str, user: str, command: list[str]) -> None:
    """Start the server, wait for the last holder of the lock to go, kill the server."""
    identity: dict[str, Any] = {} if user == "-" else {"user": user, "group": "nogroup", "extra_groups": []}
    with Path(lock).open("rb") as held, (Path(folder) / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dies_with_parent(),  # noqa: PLW1509 - this process has one thread
            **identity,
        )
        fcntl.flock(held, fcntl.LOCK_EX)
        server.kill()
        server.wait()
        # Out of the way first, at once: a process that comes now makes the folder anew.
        with suppress(FileNotFoundError):  # or its owner has cleared it away already
            shutil.rmtree(Path(folder).rename(f"{folder}.gone"), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
