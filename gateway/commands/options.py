"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config FILE`."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("gateway.toml"),
        metavar="FILE",
        help="default: gateway.toml",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
