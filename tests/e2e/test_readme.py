"""The README keeps its word: its tour is typed in a new folder, in a new home, line by line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.servers import PROJECT

README = (PROJECT / "README.md").read_text()
BLOCK = re.compile(r"^<!-- tour: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Terminal:
    """A person's shell: `export` lasts, every other line must end with 0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CELERIAC_HOME": str(folder / ".celeriac"),
        }

    def type(self, line: str) -> str:
        """Type a line; what it prints."""
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            self.env |= dict(word.split("=", 1) for word in words[1:])
            return ""
        ended = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, f"$ {line}\nended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stdout


def is_running_in(folder: Path) -> list[str]:
    """Command lines of processes that have this folder's home."""
    home = str(folder / ".celeriac")
    found = []
    for process in psutil.process_iter():
        try:
            if home in (process.environ().get("CELERIAC_HOME"), *process.cmdline()):
                found.append(shlex.join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_the_tour_does_what_it_says(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    lines: list[str] = []
    for name, text in BLOCK.findall(README):
        if name == "commands":
            lines += text.splitlines()
        else:
            (tmp_path / name).write_text(text)
    printed = {line: terminal.type(line) for line in lines}

    def answer(start: str) -> str:
        (only,) = (text for line, text in printed.items() if line.startswith(start) and "--json" not in line)
        return only

    assert answer("celeriac validate") == "1 definition valid\n"
    plan = answer("celeriac plan")
    assert "3 steps, 2 edges" in plan
    assert "split -> measure -> total" in plan
    drawn = answer("celeriac graph")
    assert drawn.startswith("flowchart")
    assert drawn.count("-->") == 2

    text = re.search(r'text: \{type: string, default: "(.*)"\}', README)
    assert text is not None
    letters = sum(map(len, text[1].split()))
    assert re.search(rf"letters +{letters}\b", answer("celeriac run words.yaml"))
    (report,) = (json.loads(text) for line, text in printed.items() if "--json" in line)
    assert report["status"] == "SUCCESS"
    assert report["outputs"] == {"letters": len("onetwothree")}
    assert report["steps"]["measure"]["items"] == {"total": 3, "success": 3, "failure": 0}
    assert report["dispatches"]["reconciler"] == 0

    assert answer("celeriac ps").count("SUCCESS") == 2
    assert report["run_id"] in answer("celeriac show")
    assert {line.rsplit(" ", 1)[-1] for line in answer("celeriac logs").splitlines()} == {"one", "two", "three"}

    assert "SUCCESS" in answer("celeriac run literature-review")
    best = answer("celeriac search").partition("\n 2 ")[0]
    assert "Intermittently Failing Tests" in best
    assert is_running_in(tmp_path) == []


def test_the_first_screen_says_what_it_is_and_shows_a_picture_and_two_commands() -> None:
    screen = README.splitlines()[:24]
    assert screen[0] == "# Celeriac"
    (picture,) = re.findall(r"!\[[^\]]+\]\((\S+)\)", "\n".join(screen))
    assert (PROJECT / picture).is_file()
    commands = [line.split(" ")[0] for line in screen if line.startswith("./")]
    assert commands == ["./start_dev.sh", "./run_tests.sh"]
    assert all(os.access(PROJECT / command, os.X_OK) for command in commands)


def test_what_the_readme_and_the_docs_link_to_exists() -> None:
    files = (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md")))
    links = [(file, link) for file in files for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text())]
    gone = [f"{file}: {link}" for file, link in links if "://" not in link and not (file.parent / link).exists()]
    assert gone == []
