"""Which addresses a delivery may go to: those of the public internet, unless the setting `deliver_private` allows all.

The address that was checked is the one that is connected to: names are resolved here, and what a name means a moment later is not asked.
"""

import socket
from errno import EACCES
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

NAT64 = IPv6Network("64:ff9b::/96")


class Refused(OSError):
    """The address is not one that a delivery may go to."""


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also where it hides an IPv4 address.

    >>> [is_public(text) for text in ("93.184.216.34", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "::1")]
    [True, False, False, False, False, False]
    """
    address = hidden(ip_address(text.partition("%")[0]))
    return address.is_global and not address.is_multicast and not address.is_reserved


def hidden(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if not isinstance(address, IPv6Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def check_host(host: str) -> None:
    """Raises Refused where `host` is an address, and not a public one; names are checked when they are resolved."""
    try:
        public = is_public(host)
    except ValueError:
        return
    if not public:
        raise Refused(EACCES, f"{host} is no public address (setting deliver_private)")


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only."""

    def __init__(self) -> None:
        self.inner = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The public addresses of a name.

        Raises:
            Refused: it has none.
        """
        found = [result for result in await self.inner.resolve(host, port, family) if is_public(result["host"])]
        if not found:
            raise Refused(EACCES, f"{host} has no public address (setting deliver_private)")
        return found

    async def close(self) -> None:
        await self.inner.close()
