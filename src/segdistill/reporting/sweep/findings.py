"""Notes for the reader of a sweep's scores."""

from __future__ import annotations

from collections.abc import Mapping

from segdistill.reporting.findings import count_of, optimism
from segdistill.reporting.sweep.comparison import refusal
from segdistill.reporting.sweep.jobs import SCORE, Jobs


def sweep_warnings(jobs: Jobs, baseline: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each thing that makes the scores of a sweep mean less than they seem to."""
    scored = [job for job in jobs.jobs if job.score is not None]
    refused = refusal(jobs, baseline)
    collapsed = [job.name for job in scored if job.collapsed]
    return [
        *map(optimism, sorted({job.split for job in scored if job.selected_on})),
        *([refused] if refused else []),
        *([f"a single class is predicted everywhere by job {', '.join(collapsed)}"] if collapsed else []),
    ]


def score_label(jobs: Jobs) -> str:
    """Return the label of the scores of all jobs."""
    return " or ".join(jobs.score_labels) or "mean IoU"


def scored_classes(jobs: Jobs) -> str:
    """Describe how many classes the means average over; empty if no job records it."""
    scored = [job for job in jobs.jobs if job.score is not None and job.scored_by == SCORE]
    counts = sorted({job.classes for job in scored if job.classes[1]})
    if not counts:
        return ""
    differ = "" if len(counts) == 1 else ", depending on the job: their means are of different things"
    return f"mean IoU over {' or '.join(count_of(*count) for count in counts)}{differ}"
