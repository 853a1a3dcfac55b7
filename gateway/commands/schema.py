"""`gateway schema`: JSON Schema of every TOML file, for editors."""

from __future__ import annotations

import argparse

from gateway import middlewares
from gateway.commands.options import print_json
from gateway.config.tables.describe import json_schemas
from gateway.runtime.reload import schema_for

NAMES = ("gateway", "upstreams", "pipeline")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", choices=NAMES, help="this file's schema alone")


def run(options: argparse.Namespace) -> int:
    schemas = json_schemas(schema_for, middlewares.names())
    print_json(schemas if options.name is None else schemas[options.name])
    return 0
