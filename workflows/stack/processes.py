"""Processes that never outlive the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dies_with_parent(signum: int = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel sends `signum` to the child when the calling thread ends.

    Linux binds this to the thread that forks, not to its process: call `Popen` from the main thread, of a process
    that has no other. Elsewhere there is no such thing: None; see `workflows.stack.keeper`.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def bind() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, signum) != 0:
            os._exit(127)
        if os.getppid() != parent:  # it died between fork and prctl, and will send nothing
            os._exit(127)

    return bind


def kill_group(leader: int, signum: int = signal.SIGKILL) -> None:
    """Signal every process of the group that `leader` leads; nothing happens when none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signum)
