from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.credentials.files import CredentialError
from gateway.credentials.revocations import revoked as revocations
from gateway.credentials.revocations.revoked import ALWAYS, Revocation, Revocations, add, load

NOW = 1_700_000_000


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": "https://id", "sub": "alice", "jti": "j1", "iat": NOW, **more}


@pytest.mark.parametrize(
    ("entry", "said", "why"),
    [
        (Revocation(jti="j1"), {}, "jti"),
        (Revocation(jti="j1", issuer="https://id"), {}, "jti"),
        (Revocation(jti="j1", issuer="https://other"), {}, ""),
        (Revocation(jti="j2"), {}, ""),
        (Revocation(jti="j1"), {"jti": ["j1"]}, ""),
        (Revocation(subject="alice"), {}, "subject"),
        (Revocation(subject="bob"), {}, ""),
        (Revocation(subject="alice", before=NOW + 1), {}, "subject"),
        (Revocation(subject="alice", before=NOW), {}, ""),
        (Revocation(subject="alice", before=5), {"iat": None}, "subject"),
        (Revocation(subject="alice", issuer="https://other"), {}, ""),
        (Revocation(before=NOW + 1), {"jti": None, "sub": None}, "all tokens"),
        (Revocation(before=NOW), {}, ""),
        (Revocation(before=NOW + 1, issuer="https://id"), {}, "all tokens"),
        (Revocation(before=NOW + 1, issuer="https://other"), {}, ""),
    ],
)
def test_why(entry: Revocation, said: dict[str, Any], why: str):
    assert why in Revocations([entry]).why(claims(**said)) and bool(why) == bool(
        Revocations([entry]).why(claims(**said))
    )


def test_the_latest_of_several_counts():
    entries = [
        Revocation(subject="alice", before=NOW + 9),
        Revocation(subject="alice", before=3),
        Revocation(before=9),
    ]
    assert Revocations(entries).why(claims()) and Revocations(entries[::-1]).why(claims())
    assert repr(Revocations(entries)) == "<Revocations 2>"


def test_listeners_hear_of_another_list():
    one, heard = Revocations(), []
    one.listeners.add(lambda: heard.append(one.why(claims())))
    one.replace([Revocation(jti="j1")])
    one.replace([])
    assert heard == ["its jti is revoked", ""]
    one.close()


async def test_of_a_file_that_changes(tmp_path: Path):
    path = tmp_path / "revoked.toml"
    one = Revocations.of(path)
    assert one.why(claims()) == "" and one._watched is not None
    add(path, Revocation(jti="j1"))
    await one._watched.look()
    assert one.why(claims()) == "its jti is revoked"
    one.close()


texts = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=20)
entries = st.one_of(
    st.builds(Revocation, jti=texts, issuer=texts | st.just("")),
    st.builds(Revocation, subject=texts, before=st.integers(0, 2**32).map(float) | st.just(ALWAYS)),
    st.builds(
        Revocation, before=st.integers(0, 2**32).map(float), until=st.integers(0, 2**32).map(float)
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(entries, max_size=5))
def test_what_is_added_is_read(tmp_path_factory: pytest.TempPathFactory, wanted: list[Revocation]):
    path = tmp_path_factory.mktemp("r") / "revoked.toml"
    for entry in wanted:
        add(path, entry)
    assert list(load(path)) == wanted


def test_comments_stay(tmp_path: Path):
    path = tmp_path / "revoked.toml"
    path.write_text("# ours\n[[revoked]]\njti = 'a'")
    add(path, Revocation(jti="b"))
    assert path.read_text() == "# ours\n[[revoked]]\njti = 'a'\n\n[[revoked]]\njti = \"b\"\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "is not TOML"),
        ("revoked = 1", "must be an array of tables"),
        ("[[revoked]]\njti = 1", "entry 1: jti must be text"),
        ("[[revoked]]\njti = ''", "entry 1: jti must be text"),
        (
            "[[revoked]]\njti = 'a'\n[[revoked]]\nbefore = 'now'",
            "entry 2: before must be a date and time",
        ),
        ("[[revoked]]\nissuer = 'a'", "refuse everybody"),
        ("[[revoked]]\nsub = 'a'", "a key sub that means nothing"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str, message: str):
    path = tmp_path / "revoked.toml"
    path.write_text(text)
    with pytest.raises(CredentialError, match=message):
        load(path)
    with pytest.raises(CredentialError):
        add(path, Revocation(jti="a"))
    assert path.read_text() == text


def test_what_cannot_be_read_or_written(tmp_path: Path):
    with pytest.raises(CredentialError, match="cannot read"):
        load(tmp_path)
    with pytest.raises(CredentialError, match="cannot write in"):
        add(tmp_path / "none" / "revoked.toml", Revocation(jti="a"))
    with pytest.raises(CredentialError, match="one line"):
        add(tmp_path / "revoked.toml", Revocation(jti="a\nb"))
    assert revocations.load(tmp_path / "revoked.toml") == ()
