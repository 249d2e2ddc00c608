"""Which addresses the requests of steps may go to.

A definition, a param or a paper may name any URL. What lies on this machine, in its network, or at the address where
clouds hand out credentials is none of their business, unless the operator says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from workflows.model.errors import PermanentError
from workflows.settings import Config, SettingsError

VARIABLE = "CELERIAC_ALLOW_PRIVATE_NETWORKS"

_NAT64 = IPv6Network("64:ff9b::/96")


class BlockedAddressError(PermanentError):
    """A request was to go to an address that steps may not reach."""


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What may be reached beside the public internet.

    Attributes:
        allow_private: Loopback and private networks; never link-local addresses, where clouds keep credentials.
        networks: Networks that may be reached whatever they are.
        hosts: Names that may be reached wherever they lead.
    """

    allow_private: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config) -> NetworkRules:
        """The rules of `CELERIAC_ALLOW_PRIVATE_NETWORKS`: `true`, or networks, addresses and names with commas.

        Raises:
            SettingsError: an entry is neither a network nor a name.
        """
        words = [word for word in config.text(VARIABLE, "").replace(",", " ").split() if word.lower() != "false"]
        networks, hosts = [], set()
        for word in words:
            try:
                networks.append(ip_network(word, strict=False))
            except ValueError:
                if "/" in word or ":" in word:
                    raise SettingsError(
                        f"{VARIABLE} has the entry {word!r}", "use true, or networks and names: 10.0.0.0/8,wiki.example"
                    ) from None
                hosts.add(word.lower().rstrip("."))
        return cls("true" in hosts, tuple(networks), frozenset(hosts - {"true"}))

    def check(self, host: str, address: str) -> None:
        """Refuse an address that a name leads to.

        Raises:
            BlockedAddressError: steps may not reach it.
        """
        found = ip_address(address.partition("%")[0])
        if host.lower().rstrip(".") in self.hosts or any(found in network for network in self.networks):
            return
        if not all(self._is_reachable(part) for part in _parts(found)):
            raise BlockedAddressError(
                f"'{host[:200]}' leads to {found}, which steps may not reach: it is not on the public internet. "
                f"An operator may allow it by {VARIABLE}"
            )

    def _is_reachable(self, address: IPv4Address | IPv6Address) -> bool:
        if address.is_loopback:
            return self.allow_private
        if address.is_multicast or address.is_unspecified or address.is_reserved or address.is_link_local:
            return False
        if address.is_global:
            return not getattr(address, "is_site_local", False)
        return self.allow_private and address.is_private


def _parts(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, or those that it stands for: IPv4 wrapped into IPv6 reaches what that IPv4 address reaches."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        # Whether such an address is itself public, Python answers differently from one release to the next.
        return [address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]
