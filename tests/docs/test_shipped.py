"""What is shipped beside the code holds: configurations check without a word, scripts are bash."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.runtime.check import check

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*ROOT.glob("bin/*"), ROOT / ".ci" / "run", ROOT / "bench" / "setup.sh"]


@pytest.mark.parametrize(
    "name", ["gateway.toml", "bench/partner/gateway.toml", "bench/plain/gateway.toml"]
)
def test_configuration_has_neither_errors_nor_warnings(name: str):
    assert check(ROOT / name, {}).warnings == ()


def test_the_readme_shows_a_configuration_that_works(tmp_path: Path):
    (shown,) = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "partner.toml").write_text(shown, "utf-8")
    shutil.copy(ROOT / "upstreams.toml", tmp_path)
    shutil.copy(ROOT / "keys.toml", tmp_path)
    (tmp_path / "gateway.toml").write_text("")
    loaded = check(tmp_path / "gateway.toml", {})
    assert [route.upstream for pipeline in loaded.pipelines for route in pipeline.routes] == [
        "becamera"
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_bash(script: Path):
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True).stderr == ""


def test_the_image_is_built_from_files_that_exist():
    copied = re.findall(
        r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    names = [name for line in copied for name in line.split()]
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert names
    assert [name for name in names if not (ROOT / name).exists() or f"!{name}" not in ignored] == []
