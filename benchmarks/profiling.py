"""Where the time of worker processes goes: processor time under cProfile, when PROFILE_VARIABLE names a folder."""

from __future__ import annotations

import cProfile
import os
import pstats
import time
from pathlib import Path
from typing import Any

from celery.signals import worker_process_init, worker_process_shutdown

PROFILE_VARIABLE = "BENCHMARK_PROFILE"


def begin_in_worker_children() -> None:
    """Called in a worker's parent, before it forks; every child then writes one file when it ends."""
    folder = os.environ.get(PROFILE_VARIABLE)  # noqa: TID251 - a switch of the benchmarks, no setting of Celeriac
    if not folder:
        return
    # Processor time: waiting for a server, or for a busy machine, would hide where the code is slow.
    profile = cProfile.Profile(time.thread_time)

    @worker_process_init.connect(weak=False)
    def begin(**_: Any) -> None:
        profile.enable()

    @worker_process_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        profile.disable()
        profile.dump_stats(Path(folder) / f"{os.getpid()}.prof")


def summary(folder: Path, lines: int = 60) -> str:
    """The functions that took most of the time of all children, by their own time and with what they called."""
    files = [str(path) for path in sorted(folder.glob("*.prof"))]
    if not files:
        return "no profile was written"
    with (folder / "summary.txt").open("w", encoding="utf-8") as out:
        stats = pstats.Stats(*files, stream=out)
        for order in ("tottime", "cumulative"):
            stats.sort_stats(order).print_stats(lines)
    return (folder / "summary.txt").read_text(encoding="utf-8")
