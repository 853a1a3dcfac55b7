"""The names of methods, which are case-sensitive (RFC 9110 section 9.1)."""

from __future__ import annotations

_NAMES = """
ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE
MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI
PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE
UPDATEREDIRECTREF VERSION-CONTROL
"""
REGISTERED = frozenset(_NAMES.split())
"""The HTTP Method Registry of IANA."""


def misspelt(method: str) -> str:
    """The registered method that `method` differs from in case only, "" for none.

    Origins upper-case it, so rules about a method must not see another one.
    """
    upper = method.upper()
    return upper if upper != method and upper in REGISTERED else ""
