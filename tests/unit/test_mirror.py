"""tests/unit mirrors gateway/: every module has its tests where its name says.

gateway/routing/paths.py is tested in tests/unit/routing/test_paths.py, by topics in
test_paths_TOPIC.py beside it, and a package with code of its own, gateway/middlewares/auth/, in
tests/unit/middlewares/auth/test_auth.py. What that cannot hold for is named below with its reason;
the lists are exact: what is tested after all, or has gone, must be taken out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import ROOT, modules

HERE = Path(__file__).parent

TABLES = {
    "gateway.config.openapi.config",
    "gateway.config.tables.endpoints",
    "gateway.config.tables.health",
    "gateway.config.tables.pipeline",
    "gateway.config.tables.server",
    "gateway.config.tables.tokens",
    "gateway.config.tables.traffic",
    "gateway.config.tables.upstream",
    "gateway.middlewares.auth.config",
    "gateway.middlewares.compression.config",
    "gateway.middlewares.cors.config",
    "gateway.middlewares.rate_limit.config",
    "gateway.middlewares.security_headers.config",
    "gateway.middlewares.transform.config",
}
"""Declarations of TOML tables: read by tests/unit/config/tables/test_load.py and by the tests of
what they configure."""

UNTESTED = {
    "gateway.credentials.store_client": "the command line's way to a store: tests/unit/commands",
    "gateway.credentials.revocations.store_revocations": (
        "with a real Redis: tests/flow/test_revocations_redis.py"
    ),
    "gateway.credentials.api_keys.store_ring": "with a real Redis: tests/flow/test_keys_redis.py",
    "gateway.builtins.portal.portal": "handlers over HTTP: tests/flow/test_portal.py",
    "gateway.builtins.portal.sealing_redis": "with a real Redis: tests/flow/test_portal_redis.py",
    "gateway.builtins.tokens": "handlers over HTTP: tests/flow/test_tokens.py",
    "gateway.admin.state": "a Protocol: tests/unit/admin/state.py is one of its kind",
    "gateway.upstream.discovery.kept_in_store": "with a real Redis: tests/flow/test_services.py",
    "gateway.usage.ledger_redis": "with a real Redis: tests/flow/test_usage.py",
    "gateway.__main__": "calls cli.main and nothing else",
    "gateway.app": "a whole process: tests/flow and tests/reload",
    "gateway.cli": "a process of its own: tests/flow/test_command_line.py",
    "gateway.core.clock": "two references to the standard library's clocks",
    "gateway.limits.ledger": "a Protocol, and the words it is asked with: test_redis_ledger",
    "gateway.issuer.own": "a frozen class without behaviour",
    "gateway.middlewares.caching": "puts the package together: test_cache",
    "gateway.serving.data_plane": "two listeners: tests/flow/test_tls.py",
    "gateway.serving.dry_run": "against what happens: tests/flow/test_explain.py",
    "gateway.upstream.dry_run": "against what happens: tests/flow/test_explain.py",
    "gateway.serving.requests": "asks a memory: tests/flow/test_why.py",
    "gateway.supervisor.requests": "asks processes: tests/reload/test_workers_sums.py",
    "gateway.serving.codec": "types and events without behaviour",
    "gateway.supervisor.replacement.replaceable": "processes: tests/reload/test_upgrade.py",
    "gateway.supervisor.replacement.execution": "processes: tests/reload/test_upgrade.py",
    "gateway.supervisor.member": "processes: tests/reload/test_workers.py",
    "gateway.supervisor.shared_listener": "processes: tests/reload/test_workers.py",
    "gateway.supervisor.worker": "processes: tests/reload/test_workers.py",
    "gateway.testing": "puts the package together: test_messages, test_run",
    "gateway.tokens.algorithms": "names and numbers of RFC 7518, used by test_verifying",
    "gateway.middlewares.validation": "puts the package together: test_gate",
    "gateway.upstream.connections.interfaces": "protocols without behaviour",
}
"""Modules that need no tests of their own, and why."""

ACROSS = {
    "config/test_mistakes.py": (
        "the messages that the whole configuration gives for typical mistakes"
    ),
    "config/test_routes_in_runtime.py": "that checks and router agree about routes",
    "middlewares/auth/test_attacks.py": "attacks on the whole middleware",
    "middlewares/auth/test_challenges.py": "what the whole middleware asks clients for",
    "middlewares/auth/test_driven.py": "methods that wait, driven by hand",
    "middlewares/auth/test_elsewhere.py": (
        "credentials beside Authorization, and where none are asked for"
    ),
    "middlewares/auth/test_node_jose.py": "tokens of another implementation",
    "middlewares/auth/test_other_libraries.py": "tokens of other implementations",
    "test_compiled.py": "the rules for compiled modules",
    "test_imports.py": "the rules for imports",
    "test_mirror.py": "this file",
    "test_suite.py": "the rules of the whole suite",
}
"""Test modules that belong to no module of gateway/, and what they are about."""


def place(module: str) -> Path:
    """Where the tests of a module belong, below tests/unit."""
    return modules()[module].relative_to(ROOT).parent / f"test_{module.rpartition('.')[2]}.py"


def has_code(path: Path) -> bool:
    """Return False for an __init__ that has nothing but a docstring."""
    return path.name != "__init__.py" or path.read_text("utf-8").count("\n") > 5


PLACES = {name: place(name) for name, path in modules().items() if has_code(path)}
TESTS = {path.relative_to(HERE) for path in HERE.rglob("test_*.py")}


def belongs(test: Path, place: Path) -> bool:
    return test.parent == place.parent and (test == place or test.stem.startswith(f"{place.stem}_"))


def test_every_module_has_its_tests():
    without = {
        name for name, place in PLACES.items() if not any(belongs(test, place) for test in TESTS)
    }
    assert without == TABLES | set(UNTESTED)


def test_every_test_module_has_its_module():
    across = {
        str(test) for test in TESTS if not any(belongs(test, place) for place in PLACES.values())
    }
    assert across == set(ACROSS)


@pytest.mark.parametrize(
    ("test", "module", "expected"),
    [
        ("routing/test_paths.py", "routing/test_paths.py", True),
        ("routing/test_paths_encoded.py", "routing/test_paths.py", True),
        ("test_paths.py", "routing/test_paths.py", False),
        ("routing/test_pathsx.py", "routing/test_paths.py", False),
    ],
)
def test_the_rule_itself(test: str, module: str, expected: bool):
    assert belongs(Path(test), Path(module)) is expected
