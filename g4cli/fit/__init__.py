"""Decide whether a run fits a machine, and what would fit. Pure; every choice has its reason.

memory.py      devices, the reserve, the verdict
placement.py   layers on GPUs, on other machines and on the host
context.py     the largest context, and the one that a chat opens
parallel.py    how many conversations at once
plan.py        all of it for one network
ranking.py     the types of a model
"""

from g4cli.fit.context import (
    COMMON_CTX,
    CONTEXTS,
    Trial,
    largest_context,
    plan_context,
    try_options,
)
from g4cli.fit.memory import Memory, count_spare_bytes, judge_estimate
from g4cli.fit.parallel import MAX_AUTO_PARALLEL, plan_parallel, share_context
from g4cli.fit.placement import place_layers
from g4cli.fit.plan import FitPlan, plan_fit
from g4cli.fit.ranking import TypeRanking, TypeVariant, rank_types

__all__ = [
    "COMMON_CTX",
    "CONTEXTS",
    "MAX_AUTO_PARALLEL",
    "FitPlan",
    "Memory",
    "Trial",
    "TypeRanking",
    "TypeVariant",
    "count_spare_bytes",
    "judge_estimate",
    "largest_context",
    "place_layers",
    "plan_context",
    "plan_fit",
    "plan_parallel",
    "rank_types",
    "share_context",
    "try_options",
]
