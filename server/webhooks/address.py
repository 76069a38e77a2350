"""Where a webhook may post to: never a machine that only this one reaches, unless it is allowed.

A name is resolved for each post, and the post goes to the address that was looked at: a name that
points elsewhere a moment later changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from server.hosts import is_loopback

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "64:ff9b:1::/48",  # translation inside a network, RFC 8215
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
    )
]
"""Special by IANA's registries, which the module `ipaddress` of Python 3.11 takes for public."""


class NotAllowedError(Exception):
    """A host that must not be posted to, or that has no address."""


def wrong_url(url: str) -> str:
    """What is wrong with the URL of a webhook by itself; empty where nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if any(not "!" <= letter <= "~" for letter in url):
        return "has characters that a URL can't have"
    if parts.scheme not in ("https", "http") or not host or port == 0:
        return "must be an https URL with a host"
    if parts.scheme == "http" and not is_loopback(host):
        return "must be https; http is for loopback only"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password"
    if parts.fragment or "#" in url:
        return "must not have a fragment"
    return ""


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is public, or in one of the networks.

    An IPv6 address that stands for an IPv4 one is judged as that.
    """
    meant = _meant(address)
    if any(meant in network for network in networks):
        return True
    if any(meant in network for network in _SPECIAL):
        return False
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def is_refused(url: str, networks: Sequence[Network]) -> bool:
    """Whether the host of a URL is an address, not a name, and not allowed."""
    try:
        address = ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return not is_allowed(address, networks)


async def resolved(host: str, port: int, networks: Sequence[Network]) -> str:
    """An address of a host, all of whose addresses are allowed. Raises `NotAllowedError`."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotAllowedError(f"{host} has no address: {error}") from error
    addresses = [str(item[4][0]).partition("%")[0] for item in found]
    for text in addresses:
        if not is_allowed(ipaddress.ip_address(text), networks):
            raise NotAllowedError(f"{host} is {text}, which is no public address")
    if not addresses:
        raise NotAllowedError(f"{host} has no address")
    return addresses[0]


def _meant(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
