"""XML as values, and what is refused before anything in it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failures import Failure
from gateway.protocols.json_text import Bounds, Unreadable
from gateway.protocols.xml_text import xml_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<a/>", ""),
        ("<a>x &amp; &#x41;</a>", "x & A"),
        ("<a><b>1</b><c> </c></a>", {"b": "1", "c": " "}),
        ("<a>\n <b>1</b>\n</a>", {"b": "1"}),
        ("<a><b>1</b><b>2</b><b/></a>", {"b": ["1", "2", ""]}),
        ('<a id="7"/>', {"@id": "7"}),
        ('<a id="7">x</a>', {"@id": "7", "#text": "x"}),
        ('<n:a xmlns:n="urn:x" n:k="1"><n:b>1</n:b></n:a>', {"@k": "1", "b": "1"}),
        ("<a><![CDATA[<b>]]></a>", "<b>"),
        ("<!-- c --><a><?pi x?>1</a>", "1"),
        ('<?xml version="1.0" encoding="UTF-8"?><a>ü</a>', "ü"),
    ],
)
def test_values(text: str, value: Any):
    assert xml_value(text.encode(), Bounds()) == value


LAUGHS = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><a>&c;</a>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (LAUGHS, Failure.MALFORMED),
        (FILE, Failure.MALFORMED),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><a/>', Failure.MALFORMED),
        ("<a>&b;</a>", Failure.MALFORMED),
        ("<a>", Failure.MALFORMED),
        ("<a/><b/>", Failure.MALFORMED),
        ("", Failure.MALFORMED),
        ("<a>text<b/></a>", Failure.MALFORMED),
        ('<a id="x" xmlns:n="urn:n" n:id="1"/>', Failure.MALFORMED),
        ("<a>" * 9 + "</a>" * 9, Failure.MALFORMED),
        ("<a>" + "<b/>" * 50 + "</a>", Failure.BODY_TOO_LARGE),
        ("<a " + " ".join(f'k{n}="1"' for n in range(50)) + "/>", Failure.BODY_TOO_LARGE),
        ('<?xml version="1.0" encoding="UTF-16"?><a/>', Failure.UNSUPPORTED_MEDIA_TYPE),
        ('<?xml version="1.1"?><a/>', Failure.UNSUPPORTED_MEDIA_TYPE),
    ],
)
def test_what_is_not_read(text: str, failure: Failure):
    with pytest.raises(Unreadable) as caught:
        xml_value(text.encode(), Bounds(depth=8, members=50))
    assert caught.value.failure is failure


@given(st.binary(max_size=60) | st.text(alphabet='<>/ab="& !DOCTYPE[]?', max_size=60))
def test_any_bytes_are_a_value_or_refused(data: bytes | str):
    try:
        xml_value(data.encode() if isinstance(data, str) else data, Bounds())
    except Unreadable as error:
        assert error.failure.status in (400, 415)
