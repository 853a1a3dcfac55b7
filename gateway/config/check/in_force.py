"""A configuration for operators: names and how they hang together, no values."""

from __future__ import annotations

from typing import Any

from gateway.config.check.compile import LoadedConfig


def described(loaded: LoadedConfig) -> dict[str, Any]:
    """Return what is in force, by names; nothing that could be secret."""
    return {
        "hash": loaded.hash,
        "files": [str(file) for file in loaded.files],
        "warnings": [str(problem) for problem in loaded.warnings],
        "upstreams": {
            name: {
                "balance": upstream.balance,
                "endpoints": [endpoint.url for endpoint in upstream.endpoints],
            }
            for name, upstream in loaded.upstreams.items()
        },
        "pipelines": {
            pipeline.name: {
                "file": str(pipeline.file),
                "request": list(pipeline.request),
                "response": list(pipeline.response),
                "error": list(pipeline.error),
                "routes": [
                    {
                        "name": route.name,
                        "match": ", ".join(match.path or match.prefix for match in route.matches()),
                        "kind": "path" if route.path or route.paths else "prefix",
                        "methods": list(route.methods),
                        "hosts": list(route.hosts),
                        "target": route.target,
                    }
                    for route in pipeline.routes
                ],
            }
            for pipeline in loaded.pipelines
        },
    }
