"""Machines of a test's own: network namespaces on a bridge, each with an address and a cable that can be pulled.

They take root on Linux. Elsewhere all machines are this one, servers listen on a second address of loopback, and what
cannot be pulled is only killed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_OURS = re.compile(r"^celeriac-(\d+)-")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process runs.

    Attributes:
        prefix: What stands before a command line, so that it runs there.
        link: Its network device, as the bridge sees it; empty where there is none.
    """

    prefix: tuple[str, ...] = ()
    link: str = ""

    def cut_off(self) -> None:
        """Pull its cable: nothing it sends arrives, and nobody is told so."""
        if self.link:
            _ip("link", "set", self.link, "down")


@dataclass(frozen=True, slots=True)
class Network:
    """What a test works with.

    Attributes:
        address: Of the servers, which run on the test's own machine.
        prefix_length: Of the network of all addresses.
    """

    address: str
    prefix_length: int
    machines: tuple[Machine, ...]


@contextmanager
def network(count: int) -> Iterator[Network]:
    """So many machines, and the test's own in the middle."""
    if not _may_make_namespaces():
        yield Network("127.0.0.2", 8, (Machine(),) * count)
        return
    _sweep()
    me = os.getpid()
    subnet, bridge = f"10.213.{me % 250 + 1}", f"cel{me}"
    machines = tuple(
        Machine(("ip", "netns", "exec", f"celeriac-{me}-{number}"), f"cel{me}-{number}") for number in range(count)
    )
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, machine in enumerate(machines):
            space = machine.prefix[-1]
            _ip("netns", "add", space)
            _ip("link", "add", machine.link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", machine.link, "master", bridge, "up")
            _ip("-n", space, "address", "add", f"{subnet}.{number + 2}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
        yield Network(f"{subnet}.1", 24, machines)
    finally:
        _remove(me)


def _may_make_namespaces() -> bool:
    probe = f"celeriac-{os.getpid()}-probe"
    with suppress(OSError, subprocess.CalledProcessError):
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
        return True
    return False


def _sweep() -> None:
    """Remove what test runs have left that were killed."""
    for line in _ip("netns", "list").splitlines():
        found = _OURS.match(line)
        if found and not os.path.exists(f"/proc/{found[1]}"):  # noqa: PTH110 - a process, not a file
            _remove(int(found[1]))


def _remove(owner: int) -> None:
    """The namespaces and devices of a process.

    A namespace stays for as long as a connection in it hopes for an answer, and would keep its device.
    """
    for line in _ip("netns", "list").splitlines():
        if line.startswith(f"celeriac-{owner}-"):
            _ip("netns", "delete", line.split()[0])
    for line in _ip("-brief", "link").splitlines():
        device = re.split(r"[\s@]", line)[0]
        if device == f"cel{owner}" or device.startswith(f"cel{owner}-"):
            with suppress(subprocess.CalledProcessError):  # it has just gone with its namespace
                _ip("link", "delete", device)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
