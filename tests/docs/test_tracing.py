"""docs/tracing.md names every attribute of a span."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.tracing import encoding
from tests.process import ROOT

PAGE = (ROOT / "docs" / "tracing.md").read_text("utf-8")


def test_every_attribute_of_a_span_is_named():
    source = Path(encoding.__file__).read_text("utf-8")
    names = set(re.findall(r'key\("([a-z_.]+)"\)', source)) - {"http.request.method_original"}
    assert names and names == {name for name in names if f"`{name}`" in PAGE}
