"""How often each thing happens: six kinds of bad days and a calm one."""

from __future__ import annotations

from itertools import accumulate
from typing import Final, NamedTuple

ACTIONS: Final = (
    "call", "advance", "tick", "sweep", "leap", "save", "poll", "heal_one", "crash", "edit", "add_budget",
    "plan_close", "retire_one", "write_off", "rerate", "restart", "kill", "flush", "fail_over", "stray_delete",
    "postgres_down", "lend", "lease",
)  # fmt: skip
"""Names of the methods of `faults.Faults`, in the order of the weights below."""

PLANS: Final = (
    "once", "twice", "with other usage", "void", "never", "late", "null", "void late", "void then settle", "extended",
)  # fmt: skip


class Profile(NamedTuple):
    """`network`: cumulative chances of lost, answer lost, late, twice, delayed. `weights`: cumulative."""

    name: str
    network: tuple[float, float, float, float, float]
    weights: tuple[int, ...]
    plans: tuple[str, ...]
    plan_weights: tuple[int, ...]
    factors: tuple[float, ...]


def _profile(
    name: str,
    network: tuple[float, ...],
    plan_weights: tuple[int, ...] = (40, 5, 4, 6, 6, 8, 6, 4, 6, 3),
    factors: tuple[float, ...] = (0.2, 0.5, 0.7, 1, 1, 1.5, 3),
    **more: int,
) -> Profile:
    weights = dict.fromkeys(ACTIONS, 0) | {
        "call": 90, "advance": 40, "tick": 28, "sweep": 22, "leap": 6, "save": 10, "poll": 4, "heal_one": 22,
        "crash": 5, "edit": 4, "add_budget": 1, "plan_close": 2, "retire_one": 2, "write_off": 2, "rerate": 3,
        "restart": 2, "kill": 1, "flush": 1, "fail_over": 1, "stray_delete": 8, "postgres_down": 1,
        "lend": 2, "lease": 14,
    } | more  # fmt: skip
    lost, unanswered, late, twice, delayed = accumulate(network)
    return Profile(
        name,
        (lost, unanswered, late, twice, delayed),
        tuple(accumulate(weights[action] for action in ACTIONS)),
        PLANS,
        plan_weights,
        factors,
    )


PROFILES: Final = (
    _profile("faulty network", (0.05, 0.06, 0.05, 0.08, 0.20)),
    _profile(
        "recovery storm", (0.02, 0.03, 0.03, 0.03, 0.12), restart=9, flush=5, fail_over=4, kill=3, tick=40,
        plan_close=5, write_off=10, leap=12, save=25,
    ),
    _profile("overruns", (0.01, 0.02, 0.02, 0.03, 0.10), factors=(1, 1.5, 2, 3, 3, 0.2), call=110),
    _profile("cuts", (0.02, 0.03, 0.03, 0.05, 0.15), edit=26, poll=10, sweep=30, lend=14),
    _profile(
        "late and lost", (0.02, 0.03, 0.02, 0.03, 0.10), plan_weights=(10, 4, 4, 4, 20, 25, 12, 12, 12, 4),
        leap=16, write_off=6, plan_close=5, retire_one=6,
    ),
    _profile(
        "cuts in a storm", (0.02, 0.03, 0.06, 0.05, 0.24), edit=22, retire_one=10, restart=4, flush=2, plan_close=4,
        write_off=14, leap=16, sweep=30,
    ),
    _profile(
        "leases", (0.02, 0.03, 0.03, 0.06, 0.10), lease=90, call=25, edit=2, advance=70, leap=3, restart=1, plan_close=4,
        factors=(0.2, 0.5, 0.5, 0.7, 1, 1, 1.5),
    ),
    _profile("calm", (0.0, 0.004, 0.004, 0.01, 0.06), restart=0, kill=0, flush=0, fail_over=0, crash=1, call=130),
)  # fmt: skip
