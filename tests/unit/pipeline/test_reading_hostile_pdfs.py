"""PDFs that nobody meant to be read, in a process that may break over them."""

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from pipeline.sources.local import SHIPPED, locate
from pipeline.text.faults import MENDING, Code, UnreadablePdfError
from pipeline.text.reader import PdfReader, ReadingLimits
from workflows.settings import Config, SettingsError

SOUND = locate(SHIPPED).path / "2306.07400.pdf"


@pytest.fixture
def reader() -> Iterator[PdfReader]:
    reader = PdfReader(ReadingLimits(seconds=30, memory_mb=512))
    yield reader
    reader.close()


def child_of(reader: PdfReader) -> int:
    assert reader.pid is not None
    return reader.pid


def assembled(*objects: bytes) -> bytes:
    """A PDF of these objects, the first of which is its root."""
    content, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(content))
    return content + head + table + tail


FONT = b"/Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"


def with_content(stream: bytes, resources: bytes = FONT, *more: bytes) -> bytes:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<<" + resources + b">>>>"
    return assembled(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, stream, *more)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (len(data), entries, data)


def bomb() -> bytes:
    data = b"BT /F1 8 Tf " + b"(as many words as fit) Tj " * 6_000_000 + b"ET"
    for _ in range(2):
        data = zlib.compress(data, 9)
    return with_content(stream(data, b"/Filter[/FlateDecode/FlateDecode]"))


def endless(depth: int = 60) -> bytes:
    """Forms that each draw the next one ten times."""
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>"
    forms = [stream(b"/X Do " * 10, form % (6 + n)) for n in range(depth)]
    return with_content(stream(b"/X Do " * 10), b"/XObject<</X 5 0 R>>", *forms, stream(b"", form % 5))


def with_many_pages() -> bytes:
    kids = b"<</Type/Pages/Kids[" + b"3 0 R " * 50_000 + b"]/Count 50000>>"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>"
    return assembled(b"<</Type/Catalog/Pages 2 0 R>>", kids, page, stream(b""))


def encrypted(path: Path) -> None:
    canvas = Canvas(str(path), encrypt="secret")
    canvas.drawString(100, 100, "nobody reads this")
    canvas.save()


def scanned(path: Path) -> None:
    canvas = Canvas(str(path), pagesize=A4)
    canvas.rect(100, 100, 50, 50, fill=1)
    canvas.save()


def content(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (encrypted, Code.ENCRYPTED),
        (scanned, Code.SCANNED),
        (content(b""), Code.EMPTY),
        (content(b"this is no PDF"), Code.DAMAGED),
        (content(SOUND.read_bytes()[:900]), Code.DAMAGED),
        (content(with_many_pages()), Code.TOO_LARGE),
        (content(bomb()), Code.MEMORY),
        (lambda path: None, Code.MISSING),
    ],
    ids=["encrypted", "scanned", "empty", "no-pdf", "truncated", "many-pages", "memory-bomb", "missing"],
)
def test_a_pdf_that_gives_no_text_gives_a_code_and_a_remedy_and_the_next_one_is_read(
    tmp_path: Path, reader: PdfReader, make: Callable[[Path], None], code: Code
) -> None:
    path = tmp_path / "odd.pdf"
    make(path)
    with pytest.raises(UnreadablePdfError, match=r"odd\.pdf") as caught:
        reader.read(path)
    assert caught.value.code is code
    assert MENDING[code] in str(caught.value)
    assert reader.read(SOUND).title == "Neural Embeddings for Web Testing"


def test_reading_without_end_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "endless.pdf"
    path.write_bytes(endless())
    reader = PdfReader(ReadingLimits(seconds=2, memory_mb=8192))
    began = time.monotonic()
    with pytest.raises(UnreadablePdfError) as caught:
        reader.read(path)
    assert time.monotonic() - began < 20
    assert caught.value.code in {Code.TIMEOUT, Code.MEMORY}
    assert reader.pid is None


def test_one_process_reads_many_pdfs(reader: PdfReader) -> None:
    reader.read(SOUND)
    first = child_of(reader)
    for _ in range(3):
        reader.read(SOUND)
    assert child_of(reader) == first


def test_a_reader_that_somebody_kills_costs_nothing_but_a_second_try(reader: PdfReader) -> None:
    reader.read(SOUND)
    os.kill(child_of(reader), signal.SIGKILL)
    assert reader.read(SOUND).document.text


def test_whoever_waits_may_give_up(tmp_path: Path) -> None:
    path = tmp_path / "endless.pdf"
    path.write_bytes(endless())
    reader = PdfReader(ReadingLimits(seconds=60, memory_mb=8192))

    def give_up() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reader.read(path, give_up)
    assert reader.pid is None


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_the_reader_ends_with_its_parent_however_that_dies(tmp_path: Path, *, busy: bool) -> None:
    path = tmp_path / "endless.pdf"
    path.write_bytes(endless())
    work = f"reader.read(Path({str(path)!r}))" if busy else "time.sleep(60)"
    program = (
        "import sys, time; from pathlib import Path\n"
        "from pipeline.text.reader import PdfReader, ReadingLimits\n"
        f"reader = PdfReader(ReadingLimits(60, 8192)); reader.read(Path({str(SOUND)!r}))\n"
        f"print(reader.pid, flush=True); {work}"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_the_reader_knows_no_secret_of_the_environment(reader: PdfReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_SECRET_TOKEN", "hush")
    reader.read(SOUND)
    assert "hush" not in str(psutil.Process(child_of(reader)).environ())


@pytest.mark.parametrize(
    ("name", "value"), [("CELERIAC_PDF_SECONDS", "0"), ("CELERIAC_PDF_SECONDS", "1e9"), ("CELERIAC_PDF_MEMORY_MB", "8")]
)
def test_limits_with_which_nothing_can_be_read_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        ReadingLimits.of(Config.from_env({name: value}))
