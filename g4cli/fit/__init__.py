"""Does a run fit this machine, and what would? Pure; every answer carries its reason.

memory.py      devices, the margin, the verdict
placement.py   layers over GPUs and host
context.py     the largest context, and the one that a chat opens
report.py      all of it for one network; its types ranked
"""

from g4cli.fit.context import (
    COMMON_CTX,
    CONTEXTS,
    ContextPlan,
    attempt,
    largest_context,
    plan_context,
)
from g4cli.fit.memory import MARGIN_BYTES, Memory, Verdict, verdict
from g4cli.fit.placement import Placement, place
from g4cli.fit.report import Advice, ContextRow, Report, TypeRow, rank_types, report

__all__ = [
    "COMMON_CTX",
    "CONTEXTS",
    "MARGIN_BYTES",
    "Advice",
    "ContextPlan",
    "ContextRow",
    "Memory",
    "Placement",
    "Report",
    "TypeRow",
    "Verdict",
    "attempt",
    "largest_context",
    "place",
    "plan_context",
    "rank_types",
    "report",
    "verdict",
]
