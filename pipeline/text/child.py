"""The process that reads PDFs for another one: what a hostile file does to it, it does to nobody else.

`python -m pipeline.text.child MEMORY_MB PARENT_PID` takes one request a line on its input and gives one answer a line;
both are JSON. It ends with its parent, and when nothing was asked for a while (`pipeline.text.reader` starts it again).
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.text.document import from_pdf_lines
from pipeline.text.faults import Code, UnreadablePdfError
from pipeline.text.pdf import pdf_title, read_pdf

IDLE_SECONDS = 120.0
_PR_SET_PDEATHSIG = 1
_MEGABYTE = 1024 * 1024


def main(memory_mb: int, parent: int) -> None:
    """Serve until the parent or the work is gone."""
    _die_with(parent)
    answers = _own_output()
    _limit(memory_mb)
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        try:
            request = json.loads(requests.get(timeout=IDLE_SECONDS))
        except queue.Empty:
            return
        answer, is_sound = _answer(Path(request["path"]))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if not is_sound:
            return


def _answer(path: Path) -> tuple[dict[str, Any], bool]:
    """The answer, and whether this process is fit for another request."""
    try:
        lines = read_pdf(path)
        document = from_pdf_lines(lines)
        sections = [[section.name, section.start, section.end] for section in document.sections]
        found = {"text": document.text, "sections": sections, "pages": document.page_starts}
        return {"title": pdf_title(path, lines), "document": found}, True
    except UnreadablePdfError as error:
        return {"fault": [error.code, error.what]}, True
    except MemoryError:
        return {"fault": [Code.MEMORY, f"the file {path.name} takes more memory than it may"]}, False
    except Exception as error:  # noqa: BLE001 - whatever a file brings about, it is that file's fault alone
        return {"fault": [Code.CRASHED, f"reading {path.name} failed ({type(error).__name__}: {error})"]}, False


def _listen(requests: queue.Queue[bytes]) -> None:
    """Take requests; end the process, whatever it is busy with, once its parent has closed the pipe."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the thread that started it; elsewhere `_listen` must do."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before, and will send nothing
        os._exit(0)


def _own_output() -> BinaryIO:
    """The output for answers alone: what a library prints goes where errors go."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _limit(memory_mb: int) -> None:
    import resource

    limits = {
        resource.RLIMIT_AS: memory_mb * _MEGABYTE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,  # it writes no file
    }
    for limit, wanted in limits.items():
        _, most = resource.getrlimit(limit)
        value = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
