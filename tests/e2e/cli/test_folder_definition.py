"""The definition for folders, run by the command line on a folder as reference managers leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from celeriac import main
from tests.support.files import file_site

BIB = """@article{beets, title = {Rings of beets}, author = {Lovelace, Ada}, file = {:files/beets.pdf:PDF}}
@article{carrots, title = {Colours of carrots}, abstract = {Carrots keep their colour in dark cellars.}}
@article{broken, title = {Never closed
"""
RIS = "TY  - JOUR\nID  - turnips\nTI  - Turnips in spring\nAB  - Turnips are eaten in spring.\nER  - \n"


def _write_pdf(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(path), invariant=1)
    canvas.drawString(72, 760, line)
    canvas.save()


@pytest.fixture
def folder(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "my" / "papers"
    made.mkdir(parents=True)
    (made / "library.bib").write_text(BIB, encoding="utf-8")
    (made / "export.ris").write_text(RIS, encoding="utf-8")
    _write_pdf(made / "files" / "beets.pdf", "Beetroots store their sugar in rings.")
    _write_pdf(made / "alone.pdf", "Parsnips grow sweeter after a night of frost.")
    return made


def _run(capsys: pytest.CaptureFixture[str], *params: str) -> dict[str, Any]:
    options = [word for param in params for word in ("--param", param)]
    assert main.run(["run", "pdf-folder", "--inline", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["status"] == "SUCCESS", found
    return dict(found["outputs"])


def _best(capsys: pytest.CaptureFixture[str], query: str) -> str:
    assert main.run(["search", query, "--collection", "folder", "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)[0]["paper_id"])


def test_a_folder_becomes_searchable_and_stays_in_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _run(capsys, "path=my/papers")
    assert (first["fetched"], first["quarantined"], first["collection_papers"]) == (5, 1, 4)
    assert _best(capsys, "where is sugar stored") == "beets"
    assert _best(capsys, "sweet after cold nights") == "alone"
    assert _best(capsys, "vegetables of the spring") == "turnips"
    (folder / "export.ris").unlink()
    (folder / "library.bib").write_text(BIB.replace("closed", "closed}}"), encoding="utf-8")
    second = _run(capsys, "path=my/papers")
    assert (second["fetched"], second["new"], second["removed"], second["quarantined"]) == (4, 1, 1, 0)
    assert second["collection_papers"] == 4
    assert _best(capsys, "vegetables of the spring") != "turnips"


def test_entries_with_an_address_get_their_pdf(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    with file_site() as site:
        site.content = (folder / "alone.pdf").read_bytes()
        entry = f"@misc{{parsnips, title = {{Roots}}, pdf_url = {{{site.url}/a.pdf}}}}"
        (folder / "library.bib").write_text(entry, encoding="utf-8")
        (folder / "alone.pdf").unlink()
        for _ in range(2):
            found = _run(capsys, "path=my/papers", "download_pdf=true")
            assert (found["fetched"], found["quarantined"]) == (2, 0)
        assert len(site.seen) == 1
    assert _best(capsys, "sweet after cold nights") == "parsnips"
