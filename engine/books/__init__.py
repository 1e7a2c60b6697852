"""``corequote audit``: the exchange's books against the engine's (platform §6.1).

``exchange`` reads PostgreSQL, ``ours`` reads Redis and the journal of bookings, ``fold`` computes with the
engine's own arithmetic, ``compare`` puts them side by side. None of them writes anything anywhere.
"""
