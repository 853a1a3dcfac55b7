"""With GATEWAY_COMPILE=1 the modules of a request's way are compiled (mypyc), at two thirds of the
CPU; without it everything stays Python, and the wheel is for every machine."""

from __future__ import annotations

import os
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from setuptools import setup

CONFIG = Path(__file__).with_name("setup.cfg")


def extensions() -> list[Any]:
    if os.environ.get("GATEWAY_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    config = ConfigParser()
    config.read(CONFIG)
    modules = config["mypyc"]["modules"].split()
    options = ["--config-file", str(CONFIG), "--follow-imports", "silent"]
    return list(mypycify([*options, *modules], opt_level=os.environ.get("GATEWAY_OPTIMISE", "3")))


setup(ext_modules=extensions())
