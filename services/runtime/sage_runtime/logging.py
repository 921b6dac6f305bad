"""Logs: structlog everywhere, one line per event on stderr, other libraries' logs in the same shape."""

import logging
import sys

import structlog
from structlog.typing import Processor

# At `debug` these log headers, signatures and bodies, or noise: no level of ours may let that out.
_NEVER_BELOW_INFO = ("asyncio", "boto3", "botocore", "grpc", "s3transfer", "urllib3")


def configure_logging(service_name: str, level: str = "info", format: str = "json") -> None:  # noqa: A002 - as the setting is named
    """Send every log of this process to stderr.

    Args:
        service_name: Goes into each line as `service`.
        level: Lowest level that is logged: `debug`, `info`, `warning` or `error`.
        format: `json`, one object a line, or `console` for people.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _service_name(service_name),
                *_renderers(format),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in _NEVER_BELOW_INFO:
        logging.getLogger(name).setLevel(max(threshold, logging.INFO))
    logging.captureWarnings(capture=True)


def _service_name(name: str) -> Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"service": name, **event}

    return add


def _renderers(format: str) -> list[Processor]:  # noqa: A002 - as the setting is named
    # Tracebacks are plain in both: the pretty ones print local variables, and those hold secrets.
    if format == "console":
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
