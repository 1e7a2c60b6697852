"""Schema of the exchange as Alembic revisions (contract section 6); :mod:`engine.paper.migration` runs it."""
