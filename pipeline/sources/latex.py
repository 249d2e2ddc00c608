"""Text that was written for LaTeX, as plain text."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Any

import latexcodec  # noqa: F401 - registers the codec `ulatex`

_SPECIAL = re.compile(r"[\\{}$~]|--|``|''")
_MATHS = re.compile(r"(?<!\\)(\$[^$]*(?<!\\)\$)")
_LINK = re.compile(r"\\href\s*\{[^{}]*\}")
_STYLE = re.compile(
    r"\\(?:(?:emph|text(?:it|bf|sc|rm|tt|sf|sl|up|md|normal|sub(?:script)?|superscript)|mathrm|ensuremath|enquote"
    r"|mbox|url|uppercase|MakeUppercase|href)\s*(?=\{)|(?:em|it|bf|sc|rm|tt|sl|sf)\b\s*)"
)
_COMMAND = re.compile(
    r"""\\(?:["'`^~=.]|[uvHtcdbkr](?![A-Za-z]))\s*"""
    r"""(?:\{\s*(?:[A-Za-z]{1,2}|\\[ij])\s*\}|\\[ij](?![A-Za-z])\s?|[A-Za-z])"""
    r"""|\\[A-Za-z]+\s?|\\[^A-Za-z\s]"""
)
_DOTLESS = re.compile(r"^(\\.\s*\{?\s*)\\([ij])")
_ESCAPED = re.compile(r"\\([&%$#_{}])")
_BRACE = re.compile(r"(?<!\\)[{}]")


def plain(text: str) -> str:
    r"""The text with accents, dashes and quotes as letters, without braces and commands of style.

    `Schr{\"o}dinger's \emph{cat}` is `Schrödinger's cat`. Mathematics between `$` stays as it is; so does a command
    that is not known.
    """
    if not _SPECIAL.search(text):
        return text
    return "".join(part if index % 2 else _words(part) for index, part in enumerate(_MATHS.split(text)))


def _words(text: str) -> str:
    text = _STYLE.sub("", _LINK.sub("", text))
    text = _COMMAND.sub(lambda match: _decoded(match[0]), text)
    text = text.replace("---", "\u2014").replace("--", "\u2013").replace("``", "\u201c").replace("''", "\u201d")
    return _ESCAPED.sub(r"\1", _BRACE.sub("", text).replace("~", "\u00a0"))


@lru_cache(maxsize=4096)
def _decoded(command: str) -> str:
    """One command as its letter; those that only escape a sign are left for later, so that braces are told apart."""
    if _ESCAPED.fullmatch(command):
        return command
    bare = _DOTLESS.sub(r"\1\2", command.rstrip())
    codec: Any = codecs.lookup("ulatex")  # from text to text, which the types of codecs do not foresee
    decoded = str(codec.decode(bare)[0])
    if decoded == bare:
        return command
    return re.sub(r"[{}]", "", decoded)
