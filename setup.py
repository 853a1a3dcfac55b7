"""With GATEWAY_COMPILE=1 the modules of a request's way are compiled (mypyc); without it everything
stays Python, and the wheel is for every machine."""

from __future__ import annotations

import os
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from setuptools import setup

CONFIG = Path(__file__).with_name("setup.cfg")
# Lints of a strict mypy that a later release of a package may trip; they are for who develops.
LENIENT = [
    "--no-warn-unused-ignores",
    "--no-warn-redundant-casts",
    "--no-warn-return-any",
    "--no-warn-unreachable",
]


def compiled() -> dict[str, Any]:
    """What setup() takes to compile. mypy needs the packages whose types the modules use."""
    config = ConfigParser()
    config.read(CONFIG)
    extras = config["options.extras_require"]
    if {"egg_info", "dist_info"} & set(sys.argv):  # pip asks what is needed, and for metadata
        tools = [line for line in extras["dev"].splitlines() if line.startswith("mypy ")]
        needed = (config["options"]["install_requires"] + extras["http2"]).split("\n")
        return {"setup_requires": [*tools, *filter(None, needed)]}
    from mypyc.build import mypycify

    options = ["--config-file", str(CONFIG), "--follow-imports", "silent", *LENIENT]
    modules = config["mypyc"]["modules"].split()
    level = os.environ.get("GATEWAY_OPTIMISE", "3")
    return {"ext_modules": mypycify([*options, *modules], opt_level=level, group_name="gateway")}


setup(**(compiled() if os.environ.get("GATEWAY_COMPILE") == "1" else {}))
