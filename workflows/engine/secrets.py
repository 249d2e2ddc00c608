"""Secrets by reference: `${{ secret.NAME }}` is resolved where a step runs, and nowhere else.

A secret is the variable `CELERIAC_SECRET_NAME`, or a file NAME in the folder `CELERIAC_SECRETS_FOLDER` (what Docker and
Kubernetes mount). It is read in the process that runs the step, at the moment it is needed: it is in no plan, row,
message or event. Whatever a step says afterwards (log lines, errors, outputs) passes `SecretStore.redact` or
`SecretStore.redact_values` before it is kept, so that a value that leaks into a text is written as `***`.

Expressions have `secret` in `with` only: what other expressions give (items of a map, outputs of a run) is kept.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from workflows.model.errors import PermanentError
from workflows.model.language import SECRET_NAME
from workflows.settings import Config, SettingsError

PREFIX = "CELERIAC_SECRET_"
FOLDER_VARIABLE = "CELERIAC_SECRETS_FOLDER"
HIDDEN = "***"

SHORTEST = 6
"""Characters of the shortest value that can be hidden: a shorter one would be found in texts that have nothing to do
with it."""

_LONGEST_BYTES = 65_536
_SHORTEST_LINE = 16
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s@'\"]+)(?=@)")
_URL_SETTINGS = ("DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


class SecretError(PermanentError):
    """A secret that a step refers to is not there, or cannot be used."""


class Redactor:
    """Hides values in texts, also as JSON, URLs, Python literals and base64 write them."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Hide this value from now on; one that is too short to be told from other text is left."""
        if len(value) < SHORTEST or value in self._known:
            return
        self._known.add(value)
        forms = {form for known in self._known for form in _forms(known)}
        self._pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))

    def values(self, text: str) -> str:
        """The text without the known values."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def everything(self, text: str) -> str:
        """The text without the known values, and without passwords in URLs."""
        hidden = self.values(text)
        return _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}", hidden) if "://" in hidden and "@" in hidden else hidden


class SecretStore(Mapping[str, str]):
    """The secrets of a process, by name; reading one that is missing raises `SecretError`.

    Raises:
        SettingsError: a secret has a wrong name or is too short to be hidden.
    """

    def __init__(self, config: Config) -> None:
        self._variables = {
            name.removeprefix(PREFIX): value for name, value in config.env.items() if name.startswith(PREFIX) and value
        }
        folder = config.text(FOLDER_VARIABLE, "")
        self._folder = Path(folder).expanduser().absolute() if folder else None
        self._redactor = Redactor()
        for name, value in self._variables.items():
            _check(name, value, f"{PREFIX}{name}")
            self._redactor.add(value)
        for name in self._files():
            self._read(name)
        for password in _passwords(config):
            self._redactor.add(password)

    def __getitem__(self, name: str) -> str:
        value = self._variables.get(name)
        if value is None and self._folder is not None and SECRET_NAME.fullmatch(name):
            value = self._read(name)
        if value is None:
            raise SecretError(
                f"the secret {name[:100]!r} is not known to this worker: set {PREFIX}{name[:100]}, or put a file of "
                f"that name into the folder {FOLDER_VARIABLE}"
            )
        return value

    def __iter__(self) -> Iterator[str]:
        yield from {*self._variables, *self._files()}

    def __len__(self) -> int:
        return len({*self._variables, *self._files()})

    def __repr__(self) -> str:
        return f"SecretStore({sorted(self)})"

    def redact(self, text: str) -> str:
        """A text for people (log line, error, traceback) without secrets and without passwords in URLs."""
        return self._redactor.everything(text)

    def redact_values(self, text: str) -> str:
        """Data, as JSON text, without secrets; URLs in it are left as they are."""
        return self._redactor.values(text)

    def _files(self) -> list[str]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return [file.name for file in self._folder.iterdir() if SECRET_NAME.fullmatch(file.name) and file.is_file()]

    def _read(self, name: str) -> str | None:
        assert self._folder is not None
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(_LONGEST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"the file of secret {name!r} cannot be read: {error.strerror}") from None
        try:
            value = content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretError(f"the file of secret {name!r} is no text") from None
        _check(name, value, f"the file {name} in {FOLDER_VARIABLE}")
        self._redactor.add(value)
        return value


def hide_in_logs(redact: Callable[[str], str]) -> None:
    """From now on no record of this process's logging carries what `redact` hides: not its message, not its traceback.

    It works where records are made, so it holds for every handler and formatter, whoever adds them.
    """
    make = logging.getLogRecordFactory()
    make = getattr(make, "_hides_over", make)
    formatter = logging.Formatter()

    def hiding(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong format string is told by the handler, as always
            return record
        hidden = redact(text)
        if hidden != text:
            record.msg, record.args = hidden, None
        if record.exc_info and record.exc_info[0] is not None:
            text = formatter.formatException(record.exc_info)
            traceback = redact(text)
            if traceback != text:
                # Formatters write tracebacks themselves, each in its own way: this one becomes part of the message.
                record.msg, record.args, record.exc_info = f"{hidden}\n{traceback}", None, None
        return record

    hiding._hides_over = make  # type: ignore[attr-defined]  # noqa: SLF001 - our own function: it is never stacked
    logging.setLogRecordFactory(hiding)


def _check(name: str, value: str, place: str) -> None:
    if not SECRET_NAME.fullmatch(name):
        raise SettingsError(f"{place} is no name of a secret", "use capital letters, digits and _, such as SLACK_URL")
    if len(value) < SHORTEST:
        raise SettingsError(
            f"{place} has fewer than {SHORTEST} characters: it could not be hidden in logs", "use a longer secret"
        )
    if len(value) > _LONGEST_BYTES:
        raise SettingsError(f"{place} has more than {_LONGEST_BYTES} characters", "a secret is a key or a password")


def _passwords(config: Config) -> Iterator[str]:
    """Passwords of the settings; one that is also a user's name would hide that everywhere."""
    for name in _URL_SETTINGS:
        try:
            url = urlsplit(config.text(name, ""))
        except ValueError:
            continue
        for password in {url.password or "", unquote(url.password or "")}:
            if password != url.username:
                yield password
    yield config.text("REDIS_PASSWORD", "")


def _forms(value: str) -> Iterator[str]:
    """How a value may be written in a text."""
    # An error names a URL without its query: what stands before it may be as secret.
    if "://" in value and "?" in value:
        yield from _forms(value.partition("?")[0])
    lines = [line for line in value.splitlines() if len(line) >= _SHORTEST_LINE] if "\n" in value else []
    for text in (value, *lines):
        yield text
        yield quote(text, safe="")
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield base64.b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")
