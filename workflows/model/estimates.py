"""How long something will still take: pure arithmetic."""

from __future__ import annotations


def remaining_seconds(elapsed_seconds: float, share: float, typical_seconds: float | None = None) -> float | None:
    """Seconds until the end of something that is `share` (0 to 1) done.

    The pace so far counts as much as there is of it; the rest is what it usually takes.

    Args:
        typical_seconds: How long the same thing took as a whole before; None when it never ended.

    Returns:
        None when nothing is done yet and nothing is known.
    """
    share = min(1.0, max(0.0, share))
    pace = elapsed_seconds * (1 - share) / share if share > 0 else None
    usual = None if typical_seconds is None else typical_seconds * (1 - share)
    if pace is None or usual is None:
        return usual if pace is None else pace
    return share * pace + (1 - share) * usual
