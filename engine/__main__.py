"""``python -m engine`` is the ``corequote`` command, also where no console script is on the path."""

import runpy

# Run, not imported: the command line is the outermost layer, which no module of the package imports.
runpy.run_module("engine.cli", run_name="__main__")
