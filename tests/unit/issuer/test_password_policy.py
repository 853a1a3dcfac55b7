"""Which passwords will do."""

from __future__ import annotations

import pytest

from gateway.config.tables.tokens import PasswordConfig
from gateway.issuer.password_policy import ANY_PASSWORD, PasswordPolicy

STRICT = PasswordPolicy.of(
    PasswordConfig(12, ("lower", "upper", "digit", "symbol"), "Password-123\n\n  qwerty\n")
)


@pytest.mark.parametrize(
    ("password", "fits"),
    [("x" * 7, False), ("x" * 8, True), ("é" * 4, True), ("é" * 512, True), ("é" * 513, False)],
)
def test_bounds_in_bytes(password: str, fits: bool):
    assert (ANY_PASSWORD.problem(password, "bob") == "") is fits


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("Tr0ub4dor&3x", ""),
        ("Tr0ub4dor&3", "must have 12 characters or more"),
        ("TR0UB4DOR&3X", "must have a lower-case letter"),
        ("tr0ub4dor&3x", "must have an upper-case letter"),
        ("Troubbdor&xx", "must have a digit"),
        ("Tr0ub4dor33x", "must have a character that is no letter and no digit"),
        ("Tr0ub4dor 3x", ""),
        ("PASSWORd-123", "is one of the most common passwords"),
        ("xx-Alice-123", "must not hold the user's name"),
    ],
)
def test_a_strict_policy(password: str, problem: str):
    assert STRICT.problem(password, "alice") == problem


def test_a_name_matters_only_where_kinds_do():
    assert ANY_PASSWORD.problem("alice-alice", "alice") == ""
