from __future__ import annotations

import pytest

from workflows.builtin.networks import BlockedAddressError, NetworkRules
from workflows.settings import Config, SettingsError

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
LINK_LOCAL = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]
PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("::1", "fd00::1", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
]
NOWHERE = [
    *("0.0.0.0", "::", "224.0.0.1", "239.1.2.3", "ff02::1", "255.255.255.255", "240.0.0.1", "100.64.0.1", "192.0.2.1"),
    *("198.18.0.1", "203.0.113.9", "2001:db8::1", "fec0::1", "::ffff:0.0.0.0"),
]


def _rules(value: str) -> NetworkRules:
    return NetworkRules.of(Config({"CELERIAC_ALLOW_PRIVATE_NETWORKS": value}))


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_reached(address: str) -> None:
    _rules("").check("example.org", address)


@pytest.mark.parametrize("address", [*PRIVATE, *LINK_LOCAL, *NOWHERE])
def test_nothing_else_is(address: str) -> None:
    with pytest.raises(BlockedAddressError, match="CELERIAC_ALLOW_PRIVATE_NETWORKS"):
        _rules("").check("example.org", address)


def test_private_networks_can_be_allowed_but_not_where_clouds_keep_credentials() -> None:
    for address in PRIVATE:
        _rules("true").check("intranet", address)
    for address in LINK_LOCAL:
        with pytest.raises(BlockedAddressError):
            _rules("true").check("intranet", address)


def test_single_networks_and_names_can_be_allowed() -> None:
    rules = _rules("10.0.0.0/8, wiki.example,fd00::/8 192.168.1.7")
    rules.check("any", "10.1.2.3")
    rules.check("any", "192.168.1.7")
    rules.check("any", "fd00::5")
    rules.check("WIKI.example.", "169.254.169.254")
    for host, address in (("any", "192.168.1.8"), ("evil.wiki.example", "127.0.0.1"), ("any", "172.16.0.1")):
        with pytest.raises(BlockedAddressError):
            rules.check(host, address)


def test_what_is_neither_network_nor_name_is_told() -> None:
    with pytest.raises(SettingsError, match=r"10\.0\.0\.0/99"):
        _rules("10.0.0.0/99")
    assert _rules("false") == NetworkRules()
