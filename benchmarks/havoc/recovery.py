"""How long the system took to go on after a fault, read from the ledger."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.havoc.faults import Fault
from benchmarks.havoc.ledger import Entry, Who

SERVERS = ("broker killed", "database restarted")
DEATHS = ("child killed", "worker killed", "worker's parent killed", "child frozen", "worker frozen")


def recovery_seconds(entries: Sequence[Entry], faults: Iterable[Fault]) -> dict[str, list[float]]:
    """Seconds by kind of fault.

    Of a death: from it to the next start of what the process was doing; what the process had already brought to its end
    is never started again and is not counted. Of a server: from its first answer to the next start of any step, unless
    it was hit once more in between.
    """
    found: dict[str, list[float]] = defaultdict(list)
    by_pid: dict[int, list[Entry]] = defaultdict(list)
    by_who: dict[Who, list[Entry]] = defaultdict(list)
    starts = sorted((entry for entry in entries if entry.event == "start"), key=lambda entry: entry.at)
    for entry in starts:
        by_pid[entry.pid].append(entry)
        by_who[entry.who].append(entry)
    times = [entry.at for entry in starts]
    faults = list(faults)
    for fault in faults:
        hits = [other.at for other in faults if other.kind == fault.kind]
        if fault.kind in SERVERS and fault.over_at is not None:
            index = bisect_right(times, fault.over_at)
            is_hit_again = (
                any(hit < times[index] for hit in hits if hit > fault.over_at) if index < len(times) else True
            )
            if not is_hit_again:
                found[fault.kind].append(times[index] - fault.over_at)
        for pid in fault.pids if fault.kind in DEATHS else ():
            before = [entry for entry in by_pid[pid] if entry.at <= fault.at]
            if before:
                again = [e.at for e in by_who[before[-1].who] if e.at > fault.at and e.pid != pid]
                if again:
                    found[fault.kind].append(again[0] - fault.at)
    return dict(found)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
