"""How every process of ours writes its log: one JSON line per event, on stderr."""

from __future__ import annotations

import logging
import os
import sys

import msgspec
import structlog


def configure(process_name: str) -> None:
    """One JSON line per event on stderr: event name, fields, process, pid, level, UTC time."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(
                serializer=lambda event, **_: msgspec.json.encode(event).decode()
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process_name, pid=os.getpid())
