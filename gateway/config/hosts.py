"""Names of hosts as they travel: lower case, A-labels (RFC 5890), no dot at the end."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""Full stops of other scripts separate labels too (UTS 46)."""


def a_labels(name: str) -> str:
    """Return the name in A-labels, in lower case; a dot at its end stays.

    The mapping is that of browsers (UTS 46, nontransitional). Raises ValueError.
    """
    if name.isascii():
        return name.lower()
    import idna  # Seldom needed, and its tables are large.

    try:
        return ".".join(
            label.lower() if label.isascii() else idna.encode(label, uts46=True).decode()
            for label in _DOTS.split(name)
        )
    except UnicodeError as error:
        raise ValueError(f"{name!r} is no host's name: {error}") from None


def host_name(name: str) -> str:
    """Return the host that a name or an address in brackets stands for, in its one spelling.

    Raises ValueError.
    """
    if name.startswith("[") and name.endswith("]"):
        try:
            return f"[{IPv6Address(name[1:-1])}]"
        except ValueError as error:
            raise ValueError(f"{name!r} is no IPv6 address: {error}") from None
    return a_labels(name).removesuffix(".")
