"""Errors of every stage are reported at once, and none that is only a consequence of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.lifetime.registry import Registry
from gateway.middlewares import CATALOGUE
from gateway.runtime import reload
from gateway.runtime.check import check
from gateway.runtime.reload import Runtime, load, surveying
from gateway.runtime.services import Services
from gateway.runtime.slices import at_once
from gateway.upstream.connections.transport import Transport
from tests.docs.reference import OWN_LOGS, sections
from tests.flow.conftest import PLAIN, write
from tests.unit.config.test_hints_typos import TYPOS
from tests.unit.config.test_hints_typos import write as write_typo

OWN = f"{__name__}:build"
UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:9"\n'
STAGES = {
    "gateway.toml": "[server]\nworker = 1\n[admin.tls]\ncertificate = 'no.pem'\nkey = 'no.key'\n"
    "[listen.tls]\ncertificate = 'none.pem'\nkey = 'none.key'\n",
    "upstreams.toml": UPSTREAM + "urll = 5\n[upstream.b]\nurl = 'https://b'\ntls = { ca = 'ca' }\n",
    "pipelines/broken.toml": "request = [\n",
    "pipelines/references.toml": "[[route]]\nprefix = '/a'\nupstream = 'orign'\n"
    "[[route]]\npath = '/me'\nbuiltin = 'me'\npass_headers = ['Accept']\n",
    "pipelines/builds.toml": f'request = ["{OWN}"]\n["{OWN}"]\nwrong = 1\n[[route]]\n'
    f"prefix = '/b'\nupstream = 'b'\n[route.\"{OWN}\"]\nwrong = 2\n",
}


def build(config: dict[str, object], context: Context) -> Hooks:
    if "wrong" in config:
        raise ConfigProblem(f"{config['wrong']} is wrong", at=("wrong",))
    if "needs" in config and context.store is None:
        raise ConfigProblem("needs a store")
    return Hooks()


def stages(root: Path) -> Path:
    (root / "pipelines").mkdir()
    for name, text in STAGES.items():
        (root / name).write_text(text)
    return root / "gateway.toml"


WANTED = [
    ("broken.toml", 1, "not TOML"),
    ("builds.toml", 3, "1 is wrong"),
    ("builds.toml", 8, "2 is wrong"),
    ("gateway.toml", 2, "server.worker"),
    ("gateway.toml", 4, "no.pem"),
    ("gateway.toml", 7, "none.pem"),
    ("references.toml", 3, "orign"),
    ("references.toml", 7, "Accept"),
    ("upstreams.toml", 3, "urll"),
    ("upstreams.toml", 6, "ca"),
]


def found(errors: ConfigErrors) -> list[tuple[str, int, str]]:
    return [(one.file.name, one.line, one.message) for one in errors.errors]


def agree(told: list[tuple[str, int, str]]) -> None:
    told.sort()
    assert [one[:2] for one in told] == [one[:2] for one in WANTED], told
    assert all(wanted[2] in one[2] for one, wanted in zip(told, WANTED, strict=True)), told


def test_check_tells_errors_of_every_stage(tmp_path: Path):
    with pytest.raises(ConfigErrors) as caught:
        check(stages(tmp_path), {})
    agree(found(caught.value))


async def test_so_does_a_reload_that_changes_nothing(tmp_path: Path):
    write(tmp_path, PLAIN, UPSTREAM)
    runtime = Runtime(tmp_path / "gateway.toml", Services(Transport()), {})
    try:
        await runtime.start()
        before = runtime.snapshot
        for name, text in STAGES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        outcome = await runtime.reload()
        assert not outcome.ok and runtime.snapshot is before
        told = [(one.file.name, one.line, one.message) for one in outcome.problems]
        agree([one for one in told if one[0] in {row[0] for row in WANTED}])
    finally:
        runtime.stop()


async def test_a_start_tells_them_too(tmp_path: Path):
    runtime = Runtime(stages(tmp_path), Services(Transport()), {})
    with pytest.raises(ConfigErrors) as caught:
        await runtime.start()
    agree(found(caught.value))
    runtime.stop()


@pytest.mark.parametrize(
    "store", ['[store]\nurll = "redis://x"\n', '[store]\nurl = "${NONE}"\n', "[[store]]\n"]
)
def test_consequences_are_not_told(store: str, tmp_path: Path):
    write(tmp_path, f'request = ["{OWN}"]\n["{OWN}"]\nneeds = true\n{PLAIN}', UPSTREAM, store)
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert len(caught.value.errors) == 1 and "needs" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[routing]\ncase_sensitive = false\nx = 1\n",
        "[listen]\nhost = '127.0.0.1'\nport = 'http'\n",
        "[listen]\nport = 1\n[listen.tls]\ncertificate = 'a.pem'\n",
        "[admin]\nport = 1\nreaders = [{ name = 'a' }, { name = 'b', token = 't' }]\n",
        "[server]\nmax_uri = '1KiB'\nworkers = 'many'\n",
        "[services]\nlike = 'origin'\nx = 1\n",
        "[errors]\nformat = 'problem'\nx = 1\n",
        "[logging.process]\nlevel = 'info'\nx = 1\n",
    ],
)
def test_a_table_that_is_wrong_in_part_is_none(text: str, tmp_path: Path):
    write(tmp_path, f'request = ["{OWN}"]\n["{OWN}"]\nwrong = 1\n{PLAIN}', UPSTREAM, text)
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert len(caught.value.errors) == 2 and "1 is wrong" in str(caught.value)


@pytest.mark.parametrize(
    "route",
    [
        "mirror = { upstream = 'origin', x = 1 }",
        "redirect = { to = '/x', x = 1 }",
        "respond = { status = 200, x = 1 }",
        "limit = { requests = 1, x = 1 }",
        "retry = { attempts = 1, x = 1 }",
        "api = { title = 't', x = 1 }",
    ],
)
def test_so_is_one_of_a_route(route: str, tmp_path: Path):
    write(tmp_path, f"[[route]]\nprefix = '/'\nupstream = 'origin'\n{route}\n", UPSTREAM)
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert ".x: is not a known key" in str(caught.value) or "retry" in str(caught.value)


HEADINGS = [one.heading for one in sections() if one.heading != OWN_LOGS and "[" in one.heading]


@pytest.mark.parametrize("heading", HEADINGS)
def test_an_unknown_key_in_any_table_is_told(
    heading: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG", "gateway.reload")
    name = heading.strip("[]").split(".")[0]
    text = f"{heading.replace('NAME', 'origin')}\nx_unknown = 1\n"
    above = heading.strip("[]").rpartition(".")[0]
    text = f"[[{above}]]\n{text}" if f"[[{above}]]" in HEADINGS and name in CATALOGUE else text
    route = "[[route]]\nprefix = '/'\nupstream = 'origin'\n"
    files = {"gateway.toml": "", "upstreams.toml": UPSTREAM, "pipelines/a.toml": route}
    if name in CATALOGUE and heading != "[logging.process]":
        files["pipelines/a.toml"] = f'request = ["{name}"]\n{text}{route}'
    elif name in ("route", "openapi"):
        files["pipelines/a.toml"] += text
    else:
        files["upstreams.toml" if name == "upstream" else "gateway.toml"] += text
    (tmp_path / "pipelines").mkdir()
    for file, whole in files.items():
        if heading == "[upstream.NAME]" and file == "upstreams.toml":
            whole = f"{UPSTREAM}x_unknown = 1\n"
        (tmp_path / file).write_text(whole)
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert "x_unknown: is not a known key" in str(caught.value)
    assert "cannot be judged" not in caplog.text


def test_without_a_readable_gateway_there_is_nothing_more_to_find(tmp_path: Path):
    write(tmp_path, PLAIN, UPSTREAM, "[")
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert caught.value.rest is None and len(caught.value.errors) == 1


def test_what_does_not_hang_together_leaves_the_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(one: object) -> None:
        raise KeyError(one)

    monkeypatch.setattr(reload, "_build_rest", fails)
    write(tmp_path, PLAIN, UPSTREAM + "urll = 1\n")
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    assert [one[1] for one in found(caught.value)] == [3]


@pytest.mark.parametrize("where", sorted({where for where, _, _ in TYPOS}))
def test_no_typo_keeps_the_rest_from_being_judged(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG", "gateway.reload")
    for number, (_, text, _) in enumerate(one for one in TYPOS if one[0] == where):
        root = tmp_path / str(number)
        root.mkdir()
        write_typo(root, where, text)
        with pytest.raises(ConfigErrors) as caught:
            load(root / "gateway.toml", {})
        draft = Registry().draft()
        at_once(surveying(caught.value, draft, Services(Transport())))
    assert "cannot be judged" not in caplog.text
