from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.credentials.api_keys.key_edits import OPENING, Wish, create, revoke, rotate
from gateway.credentials.api_keys.key_file import Key, digest, load
from gateway.credentials.files import CredentialError

NOW = 1_700_000_000.5
DAY = 86_400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def only(path: Path) -> Key:
    [key] = load(path)
    return key


class TestCreate:
    def test_a_key(self, path: Path):
        wish = Wish(
            "acme", "premium", ("a:read", "b:*"), ("operator",), 'the "ümlaut"', NOW + 90 * DAY
        )
        key, secret = create(path, wish, NOW)
        assert re.fullmatch(r"bec_[0-9a-f]{64}", secret)
        assert key == only(path)
        assert key == Key(
            key.id,
            "acme",
            digest(secret),
            tier="premium",
            permissions=frozenset({"a:read", "b:*"}),
            roles=frozenset({"operator"}),
            label='the "ümlaut"',
            hint=secret[:8],
            created=int(NOW),
            expires=int(NOW) + 90 * DAY,
        )
        assert secret not in path.read_text() and secret[4:] not in path.read_text()
        assert path.read_text().startswith(OPENING)

    def test_only_the_owner_may_read_it(self, path: Path):
        create(path, Wish("acme"), NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        create(path, Wish("acme"), NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_group_that_may_read_it_still_may(self, path: Path):
        """The gateway in a container runs as another user."""
        create(path, Wish("acme"), NOW)
        path.chmod(0o640)
        create(path, Wish("acme"), NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_a_new_file_is_its_directorys_groups_to_read_if_that_is_setgid(self, path: Path):
        path.parent.chmod(0o2750)
        create(path, Wish("acme"), NOW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_gid == path.parent.stat().st_gid

    @pytest.mark.parametrize(("before", "after"), [(0o644, 0o640), (0o640, 0o640), (0o600, 0o600)])
    def test_a_copied_one_stays_its_setgid_directorys_groups_to_read(
        self, path: Path, before: int, after: int
    ):
        path.parent.chmod(0o2750)
        path.touch()
        path.chmod(before)
        create(path, Wish("acme"), NOW)
        assert stat.S_IMODE(path.stat().st_mode) == after

    def test_no_two_are_alike(self, path: Path):
        made = [create(path, Wish("acme"), NOW) for _ in range(5)]
        assert len({secret for _, secret in made}) == len({key.id for key, _ in made}) == 5
        assert load(path) == tuple(key for key, _ in made)

    def test_an_id_that_is_taken_is_not_given_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        drawn = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
        monkeypatch.setattr(
            "secrets.token_hex", lambda size: next(drawn) if size == 4 else os.urandom(size).hex()
        )
        assert [create(path, Wish("acme"), NOW)[0].id for _ in range(2)] == [
            "k_aaaaaaaa",
            "k_bbbbbbbb",
        ]

    def test_prefix(self, path: Path):
        key, secret = create(path, Wish("acme"), NOW, prefix="live-")
        assert re.fullmatch(r"live-[0-9a-f]{64}", secret) and key.hint == secret[:9]

    @pytest.mark.parametrize(
        ("existing", "hint"), [("k" * 16, "kkkk"), ("long+enough=" * 4, "long+eno")]
    )
    def test_an_existing_key_is_taken_over(self, path: Path, existing: str, hint: str):
        key, secret = create(path, Wish("acme"), NOW, existing=existing)
        assert (secret, key.digest, key.hint) == (existing, digest(existing), hint)
        with pytest.raises(CredentialError, match=f"there already: {key.id} of acme"):
            create(path, Wish("other"), NOW, existing=existing)

    @pytest.mark.parametrize(
        ("wish", "options", "said"),
        [
            (Wish(""), {}, "client ''"),
            (Wish("a\nb"), {}, "client 'a.nb' must be visible ASCII"),
            (Wish("a", tier="é"), {}, "tier 'é' must"),
            (Wish("a", permissions=("b", "c d")), {}, "permission 'c d' must"),
            (Wish("a", roles=("x,y",)), {}, "role 'x,y' must"),
            (Wish("a", label="x\ny"), {}, "label"),
            (Wish("a", expires=1e15), {}, "too far"),
            (Wish("a"), {"prefix": "a b"}, "prefix"),
            (Wish("a"), {"existing": "short"}, "16 or more"),
            (Wish("a"), {"existing": "with space in the middle"}, "no spaces"),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_is_written(
        self, path: Path, wish: Wish, options: dict[str, str], said: str
    ):
        with pytest.raises(CredentialError, match=said):
            create(path, wish, NOW, **options)
        assert not path.exists()


class TestRotate:
    def test_the_new_key_is_like_the_old_one_which_ends_soon(self, path: Path):
        old, old_secret = create(
            path, Wish("acme", "gold", ("x", "y:*"), ("r",), "note", NOW + 90 * DAY), NOW
        )
        later = NOW + 80 * DAY
        new, secret, ending = rotate(path, old.id, later, overlap=DAY)
        assert secret != old_secret and new.id != old.id
        for same in ("client", "tier", "permissions", "roles", "label"):
            assert getattr(new, same) == getattr(old, same)
        assert (new.created, new.expires) == (int(later), int(later) + 90 * DAY)
        assert (ending.digest, ending.expires, ending.replaced_by) == (
            old.digest,
            int(later + DAY),
            new.id,
        )
        assert load(path) == (ending, new)

    @pytest.mark.parametrize(
        ("expires", "wished", "expected"),
        [(None, "same", None), (NOW + DAY, None, None), (None, NOW + 5 * DAY, int(NOW) + 5 * DAY)],
    )
    def test_expiry_of_the_new_one(
        self, path: Path, expires: float | None, wished: float, expected: float | None
    ):
        old, _ = create(path, Wish("acme", expires=expires), NOW)
        assert rotate(path, old.id, NOW, overlap=0, expires=wished)[0].expires == expected

    def test_a_key_without_a_creation_time_lived_from_now(self, path: Path):
        path.write_text(
            f'[[key]]\nid = "k"\nclient = "a"\nhash = "sha256:{"0" * 64}"\nexpires = '
            f"2023-11-15T00:00:00Z\n"
        )
        left = only(path).expires - int(NOW)  # type: ignore[operator]
        assert rotate(path, "k", int(NOW), overlap=0)[0].expires == int(NOW) + left

    def test_the_old_one_never_lives_longer_for_it(self, path: Path):
        old, _ = create(path, Wish("acme", expires=NOW + 10), NOW)
        assert rotate(path, old.id, NOW, overlap=DAY)[2].expires == int(NOW) + 10

    def test_once_only(self, path: Path):
        old, _ = create(path, Wish("acme"), NOW)
        new, _, _ = rotate(path, old.id, NOW, overlap=DAY)
        with pytest.raises(CredentialError, match=f"rotated already: {new.id} replaces it"):
            rotate(path, old.id, NOW, overlap=DAY)

    def test_not_what_was_revoked_or_never_was(self, path: Path):
        old, _ = create(path, Wish("acme"), NOW)
        revoke(path, old.id, NOW)
        before = path.read_text()
        with pytest.raises(CredentialError, match="was revoked"):
            rotate(path, old.id, NOW, overlap=DAY)
        with pytest.raises(CredentialError, match="has no key k_0"):
            rotate(path, "k_0", NOW, overlap=DAY)
        assert path.read_text() == before


class TestRevoke:
    def test_a_key(self, path: Path):
        [one, other] = [create(path, Wish(name), NOW)[0] for name in ("a", "b")]
        key, changed = revoke(path, one.id, NOW)
        assert changed and key.revoked and key.state(NOW) == "revoked"
        assert load(path) == (key, other)

    def test_twice_changes_nothing(self, path: Path):
        one, _ = create(path, Wish("a"), NOW)
        revoke(path, one.id, NOW)
        before = path.read_text()
        assert revoke(path, one.id, NOW + 100)[1] is False
        assert path.read_text() == before

    def test_a_file_that_is_not_there(self, path: Path):
        with pytest.raises(CredentialError, match="no key file"):
            revoke(path, "k", NOW)


HAND_MADE = """\
# Partners. Ask before adding.
version = 1

[[key]]   # the first
id = "k_1"
client = "acme"   # since 2024
hash = "sha256:{a}"
notes = '''
expires = "not a field"
'''
expires = 2030-01-01T00:00:00Z
[key.contact]
mail = "someone"
expires = "not a field either"

# The second one.
[[ "key" ]]
id = "k_2"
client = "bert"
hash = "sha256:{b}"

[other]
x = [1,
  2]"""


class TestEditing:
    @pytest.fixture
    def hand_made(self, path: Path) -> str:
        text = HAND_MADE.format(a="a" * 64, b="b" * 64)
        path.write_text(text)
        return text

    def test_creating_adds_and_changes_nothing(self, path: Path, hand_made: str):
        create(path, Wish("carl"), NOW)
        before, after = hand_made.split("[other]")
        lines = path.read_text().removeprefix(before.replace('[[ "key" ]]', "[[key]]"))
        assert lines.startswith("[[key]]\nid = ") and lines.endswith(f"\n\n[other]{after}\n")
        assert [key.client for key in load(path)] == ["acme", "bert", "carl"]

    def test_revoking_adds_one_line_where_it_belongs(self, path: Path, hand_made: str):
        revoke(path, "k_2", NOW)
        line = "revoked = 2023-11-14T22:13:20Z\n"
        edited = hand_made.replace(f'"sha256:{"b" * 64}"\n', f'"sha256:{"b" * 64}"\n{line}')
        assert path.read_text() == edited.replace('[[ "key" ]]', "[[key]]") + "\n"

    def test_text_that_looks_like_a_field_is_left_alone(self, path: Path, hand_made: str):
        rotate(path, "k_1", NOW, overlap=DAY)
        text = path.read_text()
        assert (
            text.count('expires = "not a field"') == 1
            and text.count('expires = "not a field either"') == 1
        )
        assert text.count("expires = 2023-11-15T22:13:20Z\n") == text.count("replaced_by = ") == 1
        assert text.count("2030") == 1  # the new key's

    @pytest.mark.parametrize(
        "text",
        [
            'key = [{{id = "k_1", client = "a", hash = "sha256:{a}"}}]  # mine\n',
            'key = [\n  {{"id" = "k_1", client = "a", hash = "sha256:{a}"}}, # mine\n]\n',
            '# mine\n[[key]]\nid = "k_1"\nclient = "a"\nhash = "sha256:{a}"\nrevoked = false # '
            "[[key]]\n"
            '[[key.s]]\nx = """\n[[key]]\n"""',
            '[[key]]\r\nid = "k_1" # mine\r\nclient = "a"\r\nhash = "sha256:{a}"\r\n',
            '\ufeff[[key]]\nid = "k_1" # mine\nclient = "a"\nhash = "sha256:{a}"\n',
            '[[key]]\nid = "k_1" # mine\nclient = "a"\nhash = "sha256:{a}"\n[x]\n'
            '[[key]]\nid = "k_0"\nclient = "a"\nhash = "sha256:{b}"\n',
        ],
    )
    def test_any_layout(self, path: Path, text: str):
        path.write_bytes(text.format(a="a" * 64, b="b" * 64).encode())
        _, secret, _ = rotate(path, "k_1", NOW, overlap=DAY)
        create(path, Wish("b"), NOW)
        revoke(path, "k_1", NOW)
        keys = {key.id: key for key in load(path)}
        assert keys["k_1"].revoked and [*keys.values()][-1].client == "b"
        assert digest(secret) in {key.digest for key in keys.values()}
        said = path.read_bytes()
        assert said.count(b"# mine") == 1 and said.count(b"\r") in (0, said.count(b"\n"))

    def test_an_empty_array(self, path: Path):
        path.write_text("key = []\n")
        create(path, Wish("a"), NOW)
        assert only(path).client == "a"

    def test_an_edit_that_reads_back_as_something_else_is_given_up(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        old, _ = create(path, Wish("a"), NOW)
        before = path.read_text()
        dumps = tomlkit.dumps
        broken = (
            lambda document: dumps(document) + "x = 1\n",
            lambda document: 1 / 0,
            lambda document: "x = {",
        )
        for write in broken:
            monkeypatch.setattr(tomlkit, "dumps", write)
            for edit in (lambda: create(path, Wish("b"), NOW), lambda: revoke(path, old.id, NOW)):
                with pytest.raises(CredentialError, match=r"cannot be edited safely|is not TOML"):
                    edit()
        assert path.read_text() == before

    def test_a_deeply_nested_file(self, path: Path):
        path.write_text("x = " + "[" * 5000 + "]" * 5000)
        with pytest.raises(CredentialError, match=r"Nests too deeply \(at line 1, column 105\)"):
            create(path, Wish("a"), NOW)

    def test_a_broken_file_is_left_alone(self, path: Path):
        path.write_text("[[key]]\nid = 3\n")
        with pytest.raises(CredentialError, match="key number 1: id must"):
            create(path, Wish("a"), NOW)
        assert path.read_text() == "[[key]]\nid = 3\n"

    def test_a_header_line_at_the_very_end(self, path: Path):
        path.write_text(f'key.a = 1\n[[other]]\n[x]\n[[key.b]]\nhash = "{"a" * 64}"')
        with pytest.raises(CredentialError, match="array of tables"):
            create(path, Wish("a"), NOW)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["create", "rotate", "revoke", "comment", "unknown"]),
            min_size=1,
            max_size=12,
        ),
        st.randoms(),
    )
    def test_any_sequence_reads_back(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[str], random: object
    ):
        path = tmp_path_factory.mktemp("keys") / "keys.toml"
        create(path, Wish("first"), NOW)
        for number, step in enumerate(steps):
            keys = load(path)
            usable = [key for key in keys if not key.revoked and not key.replaced_by]
            if step in ("create", "rotate") and (step == "create" or not usable):
                create(path, Wish(f"c{number}", permissions=("p",)), NOW + number)
                assert load(path)[:-1] == keys
            elif step == "rotate":
                rotate(path, random.choice(usable).id, NOW + number, overlap=DAY)  # type: ignore[attr-defined]
                assert len(load(path)) == len(keys) + 1
            elif step == "revoke":
                key = random.choice(keys)  # type: ignore[attr-defined]
                revoke(path, key.id, NOW + number)
                assert [one for one in load(path) if one.id != key.id] == [
                    one for one in keys if one.id != key.id
                ]
            else:
                path.write_text(
                    path.read_text() + ("# a comment\n" if step == "comment" else "extra = 1\n")
                )
                if step == "unknown":
                    # Twice in one table is not TOML; make it another name each time.
                    path.write_text(path.read_text().replace("extra = 1", f"extra_{number} = 1"))
        assert path.read_text().count("# a comment") == steps.count("comment")
        assert path.read_text().count("extra_") == steps.count("unknown")
