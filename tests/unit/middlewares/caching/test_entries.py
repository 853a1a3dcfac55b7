"""A stored response."""

from gateway.middlewares.caching.entries import indexed


def test_fields_by_name_with_their_lines_joined():
    pairs = [(b"Vary", b"a"), (b"ETag", b'"1"'), (b"vary", b"b")]
    assert indexed(pairs) == {b"vary": b"a, b", b"etag": b'"1"'}
