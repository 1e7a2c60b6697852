"""``python -m engine`` is the ``corequote`` command."""

from engine.cli import main

main()
