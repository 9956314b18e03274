"""Decide whether a run fits a machine, and what would fit. Pure; every choice has its reason.

memory.py      devices, the reserve, the verdict
placement.py   layers on GPUs, on other machines and on the host
context.py     the largest context, and the one that a chat opens
parallel.py    how many conversations at once
plan.py        all of it for one network
ranking.py     the types of a model
"""
