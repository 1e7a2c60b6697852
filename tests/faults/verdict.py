"""What is not well when a run with deaths in it has ended."""

from __future__ import annotations

from engine.report import Report, verdicts


def final_problems(report: Report | None) -> tuple[str, ...]:
    """What is not well after all faults: the run itself, or a balance."""
    if report is None:
        return ("the campaign was stopped",)
    allowed = set(verdicts(report)) - set(verdicts(report, may_be_killed=True))
    return tuple(problem for problem in report.problems if problem not in allowed)
