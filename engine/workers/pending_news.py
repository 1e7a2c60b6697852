"""What a market's next intents are the first answer to: how long that takes is measured (perf/order_path.py).

News is answered by whatever the first pass sends that may send anything. What a pass could not send, because
an answer, a token or the end of a pause was missing, is sent by a later one, and says so.
"""

from __future__ import annotations

from engine.events import News


class PendingNews:
    """The oldest news that nothing has answered yet."""

    def __init__(self) -> None:
        self.kind = News.NONE
        self.mono_ns = 0  # when it came
        self.waited = False  # a pass before this one could not answer it

    def came(self, kind: News, mono_ns: int) -> None:
        """Something happened that may have to be answered."""
        if self.kind == News.NONE:
            self.kind, self.mono_ns = kind, mono_ns

    def pass_ended(self, *, answered: bool, held_up: bool) -> None:
        """``answered``: the pass sent something; ``held_up``: something is still to be sent."""
        self.waited = self.kind != News.NONE and held_up and not answered
        if not self.waited:
            self.kind, self.mono_ns = News.NONE, 0
