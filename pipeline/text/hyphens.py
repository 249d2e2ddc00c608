"""Words that were broken at the end of a line, made whole: without the hyphen, or with it where it is their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_BROKEN = re.compile(r"(?<=\w)[-\u00ad\u2010\u2011\x02]$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_TAIL = re.compile(r"[\w-]+$")
_HEAD = re.compile(r"^\w+")
_HANGING = frozenset({"and", "or", "to", "und", "et", "ou", "y", "o"})
_KEEP = frozenset({"self", "well", "non", "ex", "quasi", "half", "two", "three", "four", "five", "six"})
_CLOSED = frozenset({"some", "with", "over", "under", "there", "here", "when", "what", "more", "every", "back", "down"})
_LINKS = frozenset({"the", "of", "to", "in", "by", "and", "a", "an", "on", "for", "up", "per", "at", "as", "or", "out"})
_SHORTEST_COMPOUND = 4


def parted(line: str) -> tuple[str, bool]:
    """A line without the hyphen at its end, and whether there was one that breaks a word."""
    stripped = line.rstrip()
    match = _BROKEN.search(stripped)
    return (stripped[: match.start()], True) if match else (stripped, False)


def vocabulary(lines: Iterable[str]) -> Counter[str]:
    """How often each word stands unbroken in these lines, in lower case; compounds with their hyphens."""
    words: Counter[str] = Counter()
    after_break = False
    for line in lines:
        text, is_broken = parted(line)
        found = _WORD.findall(text.lower())
        if after_break and found:
            found = found[1:]
        if is_broken and found:
            found = found[:-1]
        words.update(found)
        after_break = is_broken
    return words


def joint(before: str, after: str, words: Counter[str]) -> str:
    """What belongs between a broken word's parts: nothing, its hyphen, or a hyphen and a space.

    Args:
        before: Text that ends with the first part, without the hyphen.
        after: Text that begins with the rest.
        words: Of the whole paper: how it writes a word elsewhere decides.
    """
    tail, head = _TAIL.search(before), _HEAD.search(after)
    if tail is None or head is None:
        return "-"
    first, rest = tail[0], head[0]
    last = first.rsplit("-", 1)[-1]
    if rest.lower() in _HANGING:
        return "- "
    if not rest[0].islower() and not (first.isupper() and rest.isupper() and first.isalpha()):
        return "-"
    whole, compound = (first + rest).lower(), f"{first}-{rest}".lower()
    if words[whole] or words[compound]:
        return "" if words[whole] >= words[compound] else "-"
    if last.lower() in _KEEP or not last.isalpha():
        return "-"
    if "-" in first and not words[(last + rest).lower()] and last.lower() in _LINKS:
        return "-"
    if len(last) >= _SHORTEST_COMPOUND and len(rest) >= _SHORTEST_COMPOUND and last.lower() not in _CLOSED:
        return "-" if words[last.lower()] and words[rest.lower()] else ""
    return ""
