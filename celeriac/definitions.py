"""From what a person types, a file or an id, to a checked workflow."""

from __future__ import annotations

import codecs
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from workflows.model.errors import CeleriacError, DefinitionError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflows.model.checks import StepSchemas
    from workflows.model.errors import Diagnostic
    from workflows.model.spec import Workflow
    from workflows.settings import Config

STANDARD_INPUT = "-"
SUFFIXES = (".yaml", ".yml")

_SHIPPED = Path(__file__).resolve().parent.parent / "definitions"
_MOST_BYTES = 1_100_000
"""More than the parser takes, so that it is the parser that refuses."""


class UnreadableFileError(CeleriacError):
    """A file that was named cannot be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a definition.

    Attributes:
        name: What findings call it: the path as it was typed.
    """

    name: str
    data: bytes

    @property
    def text(self) -> str:
        """The text as it is kept with a run."""
        for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
            if self.data.startswith(mark):
                return self.data.decode(encoding, "replace")
        return self.data.decode("utf-8-sig", "replace")


def find(name: str) -> Source:
    """Read the definition in a file, or with an id in `./definitions` or among those that are shipped.

    Raises:
        NotFoundError: there is neither such a file nor such an id.
        UnreadableFileError: it is a folder, or may not be read.
    """
    if name == STANDARD_INPUT:
        return Source("<stdin>", sys.stdin.buffer.read(_MOST_BYTES))
    path = Path(name)
    if _looks_like_path(name) or path.is_file():
        return _read(path, name)
    for folder in _folders():
        for file in _files(folder):
            if file.stem == name or _declared_id(file) == name:
                return _read(file, _short(file))
    known = ids()
    near = get_close_matches(name, known, n=1)
    raise NotFoundError(
        f"there is no definition '{name}'",
        f"did you mean '{near[0]}'?" if near else f"give a file, or one of these ids: {', '.join(known) or 'none'}",
    )


def find_shipped(name: str) -> Source:
    """Read a definition that comes with the installation, whatever lies in `./definitions`."""
    path = _SHIPPED / f"{name}.yaml"
    return _read(path, _short(path))


def ids() -> list[str]:
    """Ids of the definitions in `./definitions` and of those that are shipped."""
    return sorted({_declared_id(file) or file.stem for folder in _folders() for file in _files(folder)})


def parse(source: Source, steps: StepSchemas | None = None) -> Workflow:
    """Check a definition, against the registered steps when they are given.

    Raises:
        DefinitionError: with all findings; its text shows the lines that they are about.
    """
    from workflows.model.parser import parse_workflow

    try:
        return parse_workflow(source.data, source.name, steps=steps)
    except DefinitionError as error:
        raise ShownDefinitionError(error.diagnostics, source) from error


class ShownDefinitionError(DefinitionError):
    """The findings about a definition, with the lines that they are about."""

    def __init__(self, diagnostics: Sequence[Diagnostic], source: Source) -> None:
        super().__init__(diagnostics)
        self.args = ("the definition has errors\n" + shown(diagnostics, source),)


def shown(diagnostics: Sequence[Diagnostic], source: Source) -> str:
    """Findings for people: each with its line of the file and a caret below its column."""
    lines = source.text.splitlines()
    return "\n".join(part for found in diagnostics for part in _excerpt(found, lines))


def check_queues(workflow: Workflow, config: Config) -> None:
    """Refuse a workflow with a step that no worker of these settings would take.

    Raises:
        UnservedQueueError: names the steps and the queues.
    """
    from workflows.engine.app import QUEUES

    served = {*QUEUES, *config.queues}
    strange = {step.queue: step.id for step in workflow.steps if step.queue not in served}
    if strange:
        listed = ", ".join(f"'{queue}' (step '{step}')" for queue, step in sorted(strange.items()))
        raise UnservedQueueError(
            f"no worker takes from {'queue' if len(strange) == 1 else 'queues'} {listed}",
            f"set CELERIAC_QUEUES={','.join(sorted({*strange, *config.queues}))} here and for the workers, "
            f"or use one of {', '.join(sorted(served))}",
        )


class UnservedQueueError(CeleriacError):
    """A definition names a queue that is not among those of the workers."""


def _looks_like_path(name: str) -> bool:
    return "/" in name or name.endswith(SUFFIXES)


def _folders() -> Iterator[Path]:
    own = Path("definitions")
    yield own
    if not own.exists() or own.resolve() != _SHIPPED:
        yield _SHIPPED


def _files(folder: Path) -> list[Path]:
    return sorted(file for suffix in SUFFIXES for file in folder.glob(f"*{suffix}"))


def _declared_id(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            head = stream.read(65536).decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r"^id:\s*[\"']?([\w.-]+)", head, re.MULTILINE)
    return found[1] if found else None


def _short(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path)


def _read(path: Path, name: str) -> Source:
    try:
        with path.open("rb") as file:
            return Source(name, file.read(_MOST_BYTES))
    except FileNotFoundError:
        siblings = [str(path.with_name(file.name)) for file in _files(path.parent)]
        near = get_close_matches(str(path), siblings, n=1, cutoff=0.75)
        raise NotFoundError(
            f"there is no file '{name}'",
            f"did you mean '{near[0]}'?" if near else f"the working folder is {Path.cwd()}",
        ) from None
    except IsADirectoryError:
        raise UnreadableFileError(f"'{name}' is a folder", "name one of its .yaml files") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnreadableFileError(f"'{name}' cannot be read: {reason}", "check its name and permissions") from error


def _excerpt(found: Diagnostic, lines: Sequence[str]) -> Iterator[str]:
    yield str(found)
    if 0 < found.line <= len(lines):
        line = lines[found.line - 1]
        if len(line) <= 200 and line.isprintable():
            number = f"{found.line:>5}"
            yield f"{number} | {line}"
            if found.column:
                yield f"{' ' * len(number)} | {' ' * (found.column - 1)}^"
