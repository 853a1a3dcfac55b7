"""The access log: one JSON object a line, with exactly the fields of the contract.

What a line holds is access_log.py, what never reaches one core/content/masking.py, where it goes
lifetime/logs/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gateway.config.tables.schema import schema_of
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.lifetime.logs.logfile import LogFile, located, shared
from gateway.lifetime.logs.logqueue import LogQueue
from gateway.lifetime.logs.logsinks import HttpSink, SyslogSink
from gateway.middlewares.logging.access_log import AccessLog
from gateway.middlewares.logging.config import LoggingConfig

CONFIG = schema_of(LoggingConfig)


def build(config: LoggingConfig, context: Context) -> Hooks:
    """Raises ConfigProblem when the file cannot be opened.

    Equal settings share one AccessLog, and all of a path one LogFile.
    """
    config = replace(config, mask=(*config.mask, *sorted(context.secrets - set(config.mask))))
    sinks = tuple(_sinks(config, context))
    key = ("logging", repr(config), *(sink.name for sink in sinks))
    log: AccessLog = context.keep(
        key, (config, sinks), lambda: AccessLog(config, sinks, context.clock.wall)
    )
    return Hooks(finish=log.finish if config.sample >= 1 else log.finish_sampled)


def _sinks(config: LoggingConfig, context: Context) -> Iterator[LogQueue]:
    http, syslog = config.http, config.syslog
    if config.file:
        yield _file(located(context.directory, config.file), context)
    if http is not None:
        yield context.keep(("logging", http.url, repr(http)), http, lambda: HttpSink(http))
    if syslog is not None:
        key = ("logging", syslog.address, repr(syslog))
        yield context.keep(key, syslog, lambda: SyslogSink(syslog))


def _file(path: Path | None, context: Context) -> LogFile:
    try:
        return shared(context.keep, path)
    except OSError as error:
        hint = "its directory must exist, and the gateway's user must be allowed to write there"
        raise ConfigProblem(
            f"cannot open {path}: {error.strerror}", at=("file",), hint=hint
        ) from None
