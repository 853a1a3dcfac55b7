"""A middleware whose hook is awaited, and waits for one turn of the loop: what an operator's own
costs least."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.core.exchange import Exchange
from gateway.core.hooks import Context, Hooks


async def wait(exchange: Exchange) -> None:
    await asyncio.sleep(0)


def build(config: Mapping[str, Any], context: Context) -> Hooks:
    return Hooks(request=wait)
