"""The definitions of an installation by id: the YAML files of its folders, checked and compiled once.

A lookup costs a `stat` for each folder and one for the file. A file is read again when its stamp has changed, and
compiled again when its text has.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from workflows.compile import compile_workflow
from workflows.compile.plan import Plan
from workflows.model.checks import StepSchemas
from workflows.model.errors import CeleriacError, DefinitionError, Diagnostic, NotFoundError
from workflows.model.parser import parse_with_warnings
from workflows.model.spec import Workflow

SHIPPED = Path(__file__).resolve().parent.parent / "definitions"
SUFFIXES = (".yaml", ".yml")

_MOST_BYTES = 1_100_000
"""More than the parser takes, so that it is the parser that refuses."""

_DECLARED_ID = re.compile(rb"^id:\s*[\"']?([\w.-]+)", re.MULTILINE)

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A definition as it stands in a folder, right or wrong.

    Attributes:
        id: What it declares; the name of its file when it declares none.
        workflow: None when it has errors; so is `plan`.
        diagnostics: Errors and warnings.
        error: Why there is no plan.
    """

    id: str
    file: Path
    text: str
    digest: str
    diagnostics: tuple[Diagnostic, ...] = ()
    workflow: Workflow | None = None
    plan: Plan | None = None
    error: CeleriacError | None = field(default=None, compare=False)

    def compiled(self) -> tuple[Workflow, Plan]:
        """The checked workflow and its plan.

        Raises:
            DefinitionError: it has errors.
            GraphError, BudgetError: it cannot be compiled.
        """
        if self.error is not None:
            raise self.error.with_traceback(None)  # raised many times, it would gather the frames of each
        assert self.workflow is not None
        assert self.plan is not None
        return self.workflow, self.plan


class Catalogue:
    """The definitions in some folders, those that are shipped last. Safe over threads.

    Args:
        steps: What the definitions are checked against; see `workflows.steps.registry.schemas`.
        chords: See `workflows.compile.compile_workflow`.
    """

    def __init__(self, folders: Iterable[Path], steps: StepSchemas, *, chords: bool = True) -> None:
        self._folders = tuple(dict.fromkeys(folder.resolve() for folder in (*folders, SHIPPED)))
        self._steps = steps
        self._chords = chords
        self._lock = threading.Lock()
        self._folder_stamps: tuple[Stamp | None, ...] = ()
        self._files: dict[Path, tuple[Stamp, Entry]] = {}
        self._by_id: Mapping[str, Path] = {}

    def get(self, workflow_id: str) -> Entry:
        """The definition with this id. No part of the id is ever taken as a path.

        Raises:
            NotFoundError: no folder has it.
        """
        with self._lock:
            found = self._unchanged(workflow_id)
            if found is None:
                self._scan()
                path = self._by_id.get(workflow_id)
                found = self._files[path][1] if path is not None else None
            known = () if found else tuple(self._by_id)
        if found is not None:
            return found
        near = get_close_matches(workflow_id, known, n=1)
        raise NotFoundError(
            f"there is no workflow '{workflow_id}'",
            f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known)) or 'none'}",
        )

    def all(self) -> list[Entry]:
        """Every definition, by id."""
        with self._lock:
            self._scan()
            return [self._files[path][1] for _, path in sorted(self._by_id.items())]

    def _unchanged(self, workflow_id: str) -> Entry | None:
        path = self._by_id.get(workflow_id)
        if path is None or self._folder_stamps != tuple(map(_stamp, self._folders)):
            return None
        stamp, entry = self._files[path]
        return entry if _stamp(path) == stamp else None

    def _scan(self) -> None:
        # The stamps first: what changes while files are read is seen by the next lookup.
        self._folder_stamps = tuple(map(_stamp, self._folders))
        files: dict[Path, tuple[Stamp, Entry]] = {}
        by_id: dict[str, Path] = {}
        for path in self._paths():
            stamp = _stamp(path)
            if stamp is None:
                continue
            known = self._files.get(path)
            entry = known[1] if known is not None and known[0] == stamp else self._read(path, known)
            if entry is not None:
                files[path] = (stamp, entry)
                by_id.setdefault(entry.id, path)
        self._files, self._by_id = files, by_id

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders:
            yield from sorted(file for suffix in SUFFIXES for file in folder.glob(f"*{suffix}"))

    def _read(self, path: Path, known: tuple[Stamp, Entry] | None) -> Entry | None:
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES)
        except OSError:
            return None  # gone, or not for us to read: as if it were not there
        digest = hashlib.sha256(data).hexdigest()
        if known is not None and known[1].digest == digest:
            return known[1]
        return read_entry(data, path, digest, self._steps, chords=self._chords)


def read_entry(data: bytes, path: Path, digest: str, steps: StepSchemas, *, chords: bool = True) -> Entry:
    """Check and compile the text of a file; what is wrong with it stands in the entry."""
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf_16 else "utf-8-sig", "replace")
    declared = _DECLARED_ID.search(data)
    name = declared[1].decode("ascii", "replace") if declared else path.stem
    try:
        workflow, diagnostics = parse_with_warnings(data, path.name, steps=steps)
    except DefinitionError as error:
        return Entry(name, path, text, digest, error.diagnostics, error=error)
    try:
        plan = compile_workflow(workflow, chords=chords)
    except CeleriacError as error:
        return Entry(workflow.id, path, text, digest, tuple(diagnostics), workflow, error=error)
    return Entry(workflow.id, path, text, digest, tuple(diagnostics), workflow, plan)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
