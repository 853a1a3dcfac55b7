"""`gateway schema`: JSON Schema of every TOML file, for editors."""

from __future__ import annotations

import argparse

from gateway import middlewares
from gateway.commands.catalogue import CommandError
from gateway.commands.options import print_json
from gateway.config.tables.describe import json_schemas
from gateway.runtime.reload import schema_for


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", help="one file's schema alone: gateway, upstreams or pipeline"
    )


def run(options: argparse.Namespace) -> int:
    schemas = json_schemas(schema_for, middlewares.names())
    if options.name is None:
        print_json(schemas)
    elif options.name in schemas:
        print_json(schemas[options.name])
    else:
        raise CommandError(f"no schema {options.name!r}; there are {', '.join(schemas)}")
    return 0
