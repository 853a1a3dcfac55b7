"""The lines and words for requests that go to the origin."""

from __future__ import annotations

from gateway.middlewares.caching.status import FORWARDED, REVALIDATED, STORED, WORD


def test_every_reason_has_its_lines_and_all_but_a_method_a_word():
    assert FORWARDED.keys() == STORED.keys() == REVALIDATED.keys() == WORD.keys() | {"method"}
    assert STORED["partial"] == b"Cache-Status: gateway; fwd=partial; stored\r\n"
    for lines in (FORWARDED, STORED, REVALIDATED):
        assert all(line.endswith(b"\r\n") for line in lines.values())
