"""The one exception of configuration, and the exit codes of whoever meets it."""

from __future__ import annotations

from typing import Final

EXIT_CONFIG: Final = 78  # EX_CONFIG
EXIT_USAGE: Final = 2


_LINE_CHARACTERS_MAX: Final = 2_000


class ConfigError(Exception):
    """The configuration is refused; the message is one printable line for a person, whatever was in it."""

    def __init__(self, line: str) -> None:
        shown = line[:_LINE_CHARACTERS_MAX]
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
        )
