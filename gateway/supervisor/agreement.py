"""Configurations that all workers take, or none.

Each worker composes a configuration first. If all can, all put it into force; if one cannot, all
drop it, and nothing has changed in any.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Iterable, Sequence

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError
from gateway.supervisor.member import Member

log = logging.getLogger("gateway.workers")

TAKE_TIMEOUT = 60.0
"""Seconds that workers may take to start, or to compose a configuration."""


class Agreement:
    """loaded: the configuration in force, and `configuration` as workers are sent it."""

    loaded: LoadedConfig

    def __init__(self) -> None:
        self.configuration = b""
        self._next: tuple[LoadedConfig, bytes, dict[Member, Channel]] | None = None

    def __repr__(self) -> str:
        return f"<Agreement on {self.loaded.hash if self.configuration else 'nothing'}>"

    def begin(self, loaded: LoadedConfig) -> None:
        """Begin with a configuration, which workers are started with."""
        self.loaded, self.configuration = loaded, pickle.dumps(loaded)

    async def prepare(self, loaded: LoadedConfig, members: Iterable[Member]) -> None:
        """Have all compose it. Raises ConfigErrors with what any of them found."""
        if not self.configuration:  # Nothing has begun yet.
            return
        configuration = pickle.dumps(loaded)
        asked = {one: one.channel for one in members if one.channel is not None}
        answers = await asyncio.gather(
            *(self._prepare(one, channel, configuration) for one, channel in asked.items())
        )
        problems = list(dict.fromkeys(problem for found in answers for problem in found))
        if problems:
            for channel in asked.values():
                channel.post("discard")
            raise ConfigErrors(problems)
        self._next = loaded, configuration, asked

    async def _prepare(
        self, one: Member, channel: Channel, configuration: bytes
    ) -> Sequence[Problem]:
        try:
            async with asyncio.timeout(TAKE_TIMEOUT):
                answer = await channel.ask("prepare", configuration)
            problems: Sequence[Problem] = pickle.loads(answer)  # noqa: S301 - of our own process
            return problems
        except TimeoutError:
            why = f"did not compose it within {TAKE_TIMEOUT:g} s"
        except ChannelClosed:
            if one.leaving:  # Nobody needs it to take anything any more.
                return ()
            why = "ended while it composed it"
        except ChannelError as error:
            why = f"cannot compose it: {error}"
        return [Problem(self.loaded.files[0], 1, 1, f"worker {one.index} {why}")]

    async def commit(self, members: Iterable[Member]) -> bool:
        """Have all put into force what they have prepared; one that fails is ended, to be replaced.
        False if nothing was prepared."""
        if self._next is None:
            return False
        (self.loaded, self.configuration, asked), self._next = self._next, None
        await asyncio.gather(
            *(
                self._commit(one, one.channel, asked.get(one) is one.channel)
                for one in members
                if one.channel is not None
            )
        )
        return True

    async def _commit(self, one: Member, channel: Channel, prepared: bool) -> None:
        """A worker that was started meanwhile, with the configuration before, prepares it first."""
        try:
            if not prepared and await self._prepare(one, channel, self.configuration):
                raise ChannelError("it cannot compose what the others have in force")
            async with asyncio.timeout(TAKE_TIMEOUT):
                await channel.ask("commit")
        except ChannelClosed:
            pass
        except (ChannelError, TimeoutError) as error:
            text = "worker %d is replaced: it did not take the configuration: %s"
            log.error(text, one.index, error or "it does not answer")
            one.kill()
