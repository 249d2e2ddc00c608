from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import ledger_steps  # noqa: F401 - registers the steps that these definitions use
from workflows.catalogue import Catalogue
from workflows.model.errors import DefinitionError, NotFoundError
from workflows.steps.registry import load_steps, schemas

TEXT = "id: {id}\nsteps:\n  a: {{uses: ledger.nap, with: {{node: {node}}}}}\n"


def _catalogue(*folders: Path) -> Catalogue:
    return Catalogue(folders, schemas(load_steps()))


def _write(file: Path, id: str = "one", node: str = "n") -> None:  # noqa: A002
    file.write_text(TEXT.format(id=id, node=node))


def test_a_definition_is_found_by_the_id_that_it_declares_and_compiled_once(tmp_path: Path) -> None:
    _write(tmp_path / "file.yaml", "declared")
    catalogue = _catalogue(tmp_path)
    first = catalogue.get("declared")
    assert first.compiled()[1].workflow == "declared"
    assert catalogue.get("declared") is first
    with pytest.raises(NotFoundError):
        catalogue.get("file")


def test_a_changed_file_is_compiled_again_and_a_touched_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    _write(file)
    catalogue = _catalogue(tmp_path)
    before = catalogue.get("one")
    os.utime(file, ns=(1, 1))
    assert catalogue.get("one") is before
    _write(file, node="other")
    after = catalogue.get("one")
    assert after.compiled()[1].fingerprint != before.compiled()[1].fingerprint


def test_files_come_and_go(tmp_path: Path) -> None:
    catalogue = _catalogue(tmp_path)
    with pytest.raises(NotFoundError):
        catalogue.get("one")
    _write(tmp_path / "one.yml")
    assert catalogue.get("one").id == "one"
    (tmp_path / "one.yml").unlink()
    with pytest.raises(NotFoundError):
        catalogue.get("one")


def test_the_first_folder_wins_and_what_is_shipped_comes_last(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "x.yaml", node=name)
    _write(tmp_path / "first" / "y.yaml", "literature-review")
    catalogue = _catalogue(tmp_path / "first", tmp_path / "second")
    assert catalogue.get("one").file.parent.name == "first"
    assert catalogue.get("literature-review").file.parent.name == "first"
    shipped = ["follow-citations", "literature-review", "nightly-arxiv", "pdf-folder", "process-papers", "re-embed"]
    assert [entry.id for entry in catalogue.all()] == sorted([*shipped, "one"])
    assert _catalogue().get("literature-review").error is None


@pytest.mark.parametrize("name", ["../one", "/etc/passwd", "", "one.yaml", "\x00", "a" * 10_000])
def test_an_id_is_never_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    _write(tmp_path / "one.yaml")
    with pytest.raises(NotFoundError):
        _catalogue(tmp_path / "in").get(name)


def test_a_definition_with_errors_is_listed_and_tells_them_each_time(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("id: bad\nsteps: {a: {uses: nowhere}}\n")
    entry = _catalogue(tmp_path).get("bad")
    assert entry.plan is None
    for _ in range(3):
        with pytest.raises(DefinitionError) as raised:
            entry.compiled()
        assert len(raised.traceback) == 2, "raised again and again, an error must not gather frames"
