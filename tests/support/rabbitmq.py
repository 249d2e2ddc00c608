"""A real RabbitMQ for the tests: Debian's package, in a folder of its own, on loopback, and no daemon left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kombu.connection import Connection

from tests.support.servers import free_port, guarded

PROCESSES = ("master", *(f"gw{number}" for number in range(32)))
VIRTUAL_HOSTS = (*PROCESSES, *(f"{name}-calm" for name in PROCESSES))
"""Two for each process of a test run, by the name that xdist gives it: workers of two databases must not share one."""

START_SECONDS = 90.0
"""It is up after 4 s on a machine that has nothing else to do."""

ACCOUNT = "guest"

# epmd is what Erlang's nodes find each other by. RabbitMQ would start it as a daemon that outlives it.
_SCRIPT = """\
export HOME='{folder}' RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE='{folder}/rabbitmq.conf'
export RABBITMQ_NODENAME=test{port}@localhost RABBITMQ_MNESIA_BASE='{folder}/data' RABBITMQ_LOG_BASE='{folder}/log'
export RABBITMQ_ENABLED_PLUGINS_FILE='{folder}/plugins' RABBITMQ_DIST_PORT={distribution_port}
export ERL_CRASH_DUMP='{folder}/crash' ERL_EPMD_PORT={names_port} ERL_EPMD_ADDRESS=127.0.0.1
# With "input allowed" the script becomes the server instead of waiting for it; there is no input all the same.
export RABBITMQ_ALLOW_INPUT=1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-noinput +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none \\
  -kernel inet_dist_use_interface {{127,0,0,1}} -rabbit channel_tick_interval 1000"
if command -v setpriv >/dev/null; then setpriv --pdeathsig KILL epmd & else epmd & fi
exec '{program}'
"""


def program() -> str:
    """RabbitMQ's own script; Debian puts one in front of it that insists on a user."""
    debian = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    found = str(debian) if debian.exists() else shutil.which("rabbitmq-server")
    assert found, "rabbitmq-server is missing: sudo apt-get install rabbitmq-server"
    return found


def command(folder: Path, port: int, **settings: str | int) -> list[str]:
    """Prepare `folder` for a server on `port`; its command line.

    Args:
        settings: Further lines of `rabbitmq.conf`.
    """
    permissions = {"user": ACCOUNT, "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": ACCOUNT, "password": ACCOUNT, "tags": ""}],
        "vhosts": [{"name": name} for name in VIRTUAL_HOSTS],
        "permissions": [{"vhost": name, **permissions} for name in VIRTUAL_HOSTS],
    }
    (folder / "definitions.json").write_text(json.dumps(definitions))
    lines = {
        "listeners.tcp.1": f"127.0.0.1:{port}",
        "load_definitions": folder / "definitions.json",
        "disk_free_limit.absolute": "1MB",
        **settings,
    }
    (folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    script = folder / "run.sh"
    ports = {"port": port, "distribution_port": free_port(), "names_port": free_port()}
    script.write_text(_SCRIPT.format(folder=folder, program=program(), **ports))
    return ["sh", str(script)]


def url_of(port: int) -> str:
    """URL of the server, without a virtual host."""
    return f"amqp://{ACCOUNT}:{ACCOUNT}@127.0.0.1:{port}"


def answers(url: str) -> bool:
    """Whether the virtual host takes connections."""
    with suppress(Exception), Connection(url, connect_timeout=5) as connection:
        connection.connect()
        return True
    return False


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[str]:
    """A RabbitMQ in `folder`, shared by whoever enters with it; its URL without a virtual host."""
    port_file = folder / "port"

    def url() -> str:
        return url_of(int(port_file.read_text()))

    def prepared() -> list[str]:
        port_file.write_text(str(free_port()))
        return command(folder, int(port_file.read_text()))

    with guarded(folder, prepared, lambda: answers(f"{url()}/master"), patience=START_SECONDS):
        yield url()


def empty_queues(url: str) -> None:
    """Empty the engine's queues of what an earlier test has left.

    They are not deleted: publishers remember which queues they have declared for as long as they are connected.
    """
    with Connection(url) as connection:
        channel = connection.default_channel
        for queue in ("research", "processing"):
            channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.queue_purge(queue)


def delete_queue(url: str, queue: str) -> None:
    """Delete a queue."""
    with Connection(url) as connection:
        connection.default_channel.queue_delete(queue)


def queue_length(url: str, queue: str) -> int:
    """Messages that wait in a queue."""
    with Connection(url) as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
