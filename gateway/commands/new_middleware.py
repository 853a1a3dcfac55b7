"""`gateway new-middleware`: a package with a middleware, its table and its tests, which pass."""

from __future__ import annotations

import argparse
import keyword
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

from gateway.commands.catalogue import CommandError
from gateway.middlewares import CATALOGUE


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what lists will call it, such as geo_block")
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="where; ./NAME if left out"
    )


def run(options: argparse.Namespace) -> int:
    name = module_of(options.name)
    folder = options.directory or Path(options.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is there already, and nothing is overwritten")
    for path, text in files(name).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    print(f"{folder}: the middleware {name}. Next:")
    print(f'  cd {folder} && pip install ".[dev]"    # then lists may name {name}')
    print("  python -m pytest")
    return 0


def module_of(name: str) -> str:
    """Return the Python name of a middleware. Raises CommandError for what cannot be one."""
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module) or module != module.lower():
        raise CommandError(
            f"{name!r} is no name for a middleware: letters a to z, digits and _, as in geo_block"
        )
    if module in CATALOGUE:
        raise CommandError(f"{module} is a middleware of the gateway's own")
    if module in sys.stdlib_module_names or find_spec(module) is not None:
        raise CommandError(f"{module} is a Python module already; another name is needed")
    return module


def files(name: str) -> dict[str, str]:
    """Return the package's files by path."""
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "title": _title(name),
        "upper": name.upper(),
    }
    return {
        path.replace("NAME", name): Template(text).substitute(words) for path, text in FILES.items()
    }


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


MIDDLEWARE = '''\
"""Refuses requests without a header, and marks the answers to the others."""

from __future__ import annotations

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import FieldName
from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context, Hooks


@table
class ${title}Config:
    """The table [${name}]."""

    header: str = setting(FieldName(), default="X-${title}", doc="the header a request must have")


CONFIG = ${title}Config


def build(config: ${title}Config, context: Context) -> Hooks:
    """Called when the configuration is read; what can be worked out here costs no request."""
    missing = context.failure("${upper}_MISSING", 400, "A header is missing")
    results = context.metric("${name}", "Requests by result", labels=("result",))

    def request(exchange: Exchange) -> None:
        found = config.header in exchange.headers
        outcome = "passed" if found else "refused"
        if exchange.decisions is not None:  # A dry run: count nothing.
            exchange.decisions.append(Decision(context.name, outcome))
        else:
            results.add(outcome)
        if not found:
            raise Failed(
                missing,
                f"Requests need the header {config.header}.",
                why=f"{config.header} is missing",
                by=context.name,
            )

    def response(exchange: Exchange, reply: Reply) -> None:
        reply.set(b"X-Checked-By", context.name.encode())

    return Hooks(request=request, response=response)
'''

TESTS = '''\
"""The middleware alone, and in a gateway."""

from __future__ import annotations

import asyncio

import pytest
from gateway.core.hooks import ConfigProblem
from gateway.testing import exchange, run

from ${name} import build

PIPELINE = """
request = ["${name}:build"]
response = ["${name}:build"]

["${name}:build"]
header = "X-Word"
"""


def test_a_request_without_the_header_is_refused():
    asked = exchange("GET", "/")
    reply = asyncio.run(run(build, {"header": "X-Word"}, asked))
    assert reply.status == 400
    assert reply.get(b"x-error-code") == b"${upper}_MISSING"
    assert asked.failed.why == "X-Word is missing"


def test_others_pass():
    reply = asyncio.run(run(build, {}, exchange("GET", "/", {"X-${title}": "yes"})))
    assert (reply.status, reply.get(b"x-checked-by")) == (200, b"tested")


def test_a_header_is_a_name():
    with pytest.raises(ConfigProblem, match="header"):
        asyncio.run(run(build, {"header": "not a name"}))


def test_in_a_gateway(edge, origin):
    origin.answer = 200, {}, b"hello"
    gateway = edge(PIPELINE)
    assert gateway.get("/").status == 400
    answer = gateway.get("/a", {"X-Word": "yes"})
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["x-checked-by"] == "${name}:build"
    assert [one.target for one in origin.requests] == ["/a"]
    assert gateway.metric("gateway_plugin_${name}_total", result="refused") == 1
'''

PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "${dashed}"
version = "0.1"
description = "The middleware ${name} of an edge-gateway"
requires-python = ">=3.11"
dependencies = ["edge-gateway"]

[project.optional-dependencies]
dev = ["pytest>=8"]

[project.entry-points."gateway.middlewares"]
${name} = "${name}:build"

[tool.setuptools]
packages = ["${name}"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
"""

README = """\
# ${name}

A middleware for edge-gateway. Installed, lists may name it:

```toml
request = ["${name}"]
response = ["${name}"]

[${name}]
header = "X-${title}"
```

    pip install ".[dev]"     # makes the name known; pytest comes along
    python -m pytest         # its tests: alone, and in a gateway
"""

FILES = {
    "pyproject.toml": PROJECT,
    "README.md": README,
    "NAME/__init__.py": MIDDLEWARE,
    "NAME/py.typed": "",
    "tests/conftest.py": 'pytest_plugins = ["gateway.testing.plugin"]\n',
    "tests/test_NAME.py": TESTS,
}
