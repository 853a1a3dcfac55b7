"""The PROXY protocol, versions 1 and 2: who a connection comes from, said in front of it. Pure.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (sections 2.1 and 2.2). What is not
exactly that is refused: the address that stands in it is believed. TLVs are skipped; addresses that
are none of IP's (UNIX, UNSPEC) and LOCAL leave the socket's own in force.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_TEXT = b"PROXY "
TEXT_MAX = 107
"""Bytes of a preamble of version 1, its CRLF included (section 2.1)."""
BINARY_MAX = 16 + 4096
"""Bytes of one of version 2 that we take: addresses need 52, the rest are TLVs."""
_HEAD = 16

_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LENGTHS = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x00: 0, 0x31: 216, 0x32: 216}
"""Bytes of addresses by family and transport: TCP and UDP over IPv4, over IPv6, UNSPEC, UNIX
streams and datagrams."""


class Malformed(ValueError):
    """Bytes that are no preamble."""


def extent(data: bytes) -> int | None:
    """How long the preamble is that `data` begins with or is; None while that cannot be told.
    Raises Malformed."""
    if data[:1] == _TEXT[:1]:
        if data[: len(_TEXT)] != _TEXT[: len(data)]:
            raise Malformed("not a PROXY preamble")
        end = data.find(b"\r\n", 0, TEXT_MAX)
        if end < 0 and len(data) >= TEXT_MAX:
            raise Malformed("a line without end")
        return end + 2 if end >= 0 else None
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise Malformed("not a PROXY preamble")
    if len(data) < _HEAD:
        return None
    size = _HEAD + int.from_bytes(data[14:16], "big")
    if size > BINARY_MAX:
        raise Malformed(f"{size} bytes")
    return size


def source(preamble: bytes) -> str | None:
    """The client's address in a complete preamble; None when the socket's own is to count. Raises
    Malformed."""
    return _text(preamble) if preamble[:1] == _TEXT[:1] else _binary(preamble)


def _text(preamble: bytes) -> str | None:
    try:
        words = preamble[:-2].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise Malformed("not ASCII") from None
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise Malformed("not PROXY TCP4 or TCP6 with two addresses and two ports")
    version = 4 if words[1] == "TCP4" else 6
    try:
        addresses = [ip_address(word) for word in words[2:4]]
    except ValueError:
        raise Malformed("not an address") from None
    if any(address.version != version or "%" in str(address) for address in addresses):
        raise Malformed("an address of another family")
    if not all(_PORT.fullmatch(word) and int(word) <= 65535 for word in words[4:6]):
        raise Malformed("not a port")
    return _shown(addresses[0])


def _binary(preamble: bytes) -> str | None:
    version, command = preamble[12] >> 4, preamble[12] & 15
    if version != 2 or command > 1:
        raise Malformed(f"version {version}, command {command}")
    if command == 0:
        return None
    family = preamble[13]
    length = _LENGTHS.get(family)
    if length is None or len(preamble) < _HEAD + length:
        raise Malformed(f"family {family:#x} in {len(preamble)} bytes")
    if family >> 4 == 1:
        return str(IPv4Address(preamble[16:20]))
    return _shown(IPv6Address(preamble[16:32])) if family >> 4 == 2 else None


def _shown(address: IPv4Address | IPv6Address) -> str:
    """An IPv4 address in IPv6 clothing counts as what it is: limits and networks are written for
    that."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
