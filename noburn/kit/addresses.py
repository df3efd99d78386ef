"""Which addresses of the internet a request that somebody else chose may go to: only public ones.

Python's own `is_global` is not enough: it passes multicast, and IPv6 addresses that wrap a private IPv4 one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_DENIED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # Carriers' shared space; one cloud's metadata lives in it.
        "127.0.0.0/8",
        "168.63.129.16/32",  # Looks public, and is one cloud's own host agent.
        "169.254.0.0/16",  # Link-local: most clouds' metadata.
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # Relays of 6to4.
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # Multicast, reserved, broadcast.
    )
)
_UNICAST_6: Final = IPv6Network("2000::/3")
_DENIED_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID and other protocols: wrappers, no hosts.
        "2001:db8::/32",
        "2002::/16",  # 6to4 wraps an IPv4 address, whichever it be.
        "3fff::/20",
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Tells whether anybody on the internet could reach this address, and nobody's own network answers to it."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _DENIED_4)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        # A network without IPv4 reaches all of it by this prefix, private parts as well.
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _UNICAST_6 and address.is_global and not any(address in net for net in _DENIED_6)


def caller(connected: str, forwarded: str, *, proxies: int) -> str:
    """Returns whom a request is from, as attempts are counted: an IPv4 address, or an IPv6 network of 64 bits.

    `proxies` in front each added whom they heard to `forwarded` (X-Forwarded-For): what is before theirs, whoever sent
    it may have written.
    """
    told = [part.strip() for part in forwarded.split(",")] if forwarded and proxies > 0 else []
    text = told[-proxies] if len(told) >= proxies > 0 else connected
    try:
        address = ip_address(text)
    except ValueError:
        return text[:64]
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


def literal(host: str) -> Address | None:
    """Returns the address that a host spells as one, without brackets; None for a name.

    Knows the spellings that the C library does: `2130706433`, `0x7f.1` and `127.1` are all 127.0.0.1.
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    return _old_spelling(host)


def _old_spelling(host: str) -> IPv4Address | None:
    """One to four numbers, decimal, octal or hexadecimal; the last fills what is left. Source: inet_aton(3)."""
    parts = host.removesuffix(".").split(".")
    if not 1 <= len(parts) <= 4:
        return None
    numbers = []
    for part in parts:
        number = _number(part)
        if number is None:
            return None
        numbers.append(number)
    *heads, last = numbers
    if any(head > 255 for head in heads) or last >= 1 << 8 * (4 - len(heads)):
        return None
    value = last
    for place, head in enumerate(heads):
        value |= head << 8 * (3 - place)
    return IPv4Address(value)


def _number(text: str) -> int | None:
    if not text or not text.isascii() or len(text) > 20:
        return None
    try:
        if text.lower().startswith("0x"):
            return int(text[2:] or "0", 16)
        return int(text, 8) if text.startswith("0") else int(text, 10)
    except ValueError:
        return None
