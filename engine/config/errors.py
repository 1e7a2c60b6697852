"""The one exception of configuration, and the exit codes of whoever meets it."""

from __future__ import annotations

from typing import Final

EXIT_CONFIG: Final = 78  # EX_CONFIG
EXIT_USAGE: Final = 2


class ConfigError(Exception):
    """The configuration is refused; the message is one line for a person."""
