"""Runs a command until the one who started this dies: `python -m workflows.stack.keeper COMMAND...`.

For systems whose kernel does not offer it (all but Linux). Standard input is a pipe that nobody writes to: it closes
when the starter dies, and then the whole process group is killed. It must lead a process group of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """Run the command, pass signals on to it, end as it ends."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)

    def watch() -> None:
        os.read(0, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(signum, lambda received, _frame: child.send_signal(received))
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
