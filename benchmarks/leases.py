"""What a decision from a lease takes, tokens already counted, beside a baseline of the same run.

`python -m benchmarks.leases` prints one JSON object. The baseline makes what any answer is made of (`Allowed`), so
the ratio says what deciding adds to it on whatever machine this is. Nothing is sent.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from noburn_sdk._requests import Preflight
from noburn_sdk.estimate.cost import Rates
from noburn_sdk.leases import Drawn, Lease, Leases
from noburn_sdk.leases.bounds import Bounds
from noburn_sdk.results import Allowed
from noburn_sdk.settling import Resolution, Settler

RATES = Rates("gpt-4o-mini", {"input_tokens": [(0, 150_000)], "output_tokens": [(0, 600_000)]})
ROUNDS = 20
ENOUGH_NANO = 10**15


def _kept(_resolution: Resolution) -> None:
    """Takes what is told, and tells nobody."""


def leases() -> Leases:
    """Leases that hold enough for one kind of call, and ask nobody."""

    def no_client() -> Any:
        raise RuntimeError("a benchmark asks nobody")

    found = Leases(no_client, Settler(no_client, None), ttl_seconds=60)
    found.draw(asked())
    (kind,) = found._kinds.values()
    kind.lease = Lease(
        id="hold_1",
        authorization="nba1.k1.x.y",
        nonce="n",
        nano=ENOUGH_NANO,
        tokens=None,
        requests=None,
        until=time.monotonic() + 3_600,
        bounds=Bounds(RATES),
        cap=4_096,
        put=_kept,
    )
    return found


def asked() -> Preflight:
    """A call whose tokens are counted."""
    return Preflight(
        "gpt-4o-mini",
        1_200,
        max_output_tokens=500,
        provider="openai",
        customer="acme",
        user="u1",
        tags={"feature": "chat"},
        idempotency_key="k",
    )


def measure(count: int) -> dict[str, Any]:
    """Microseconds of a decision, and of the baseline, by turns."""
    held, question = leases(), asked()

    def decide() -> Allowed | None:
        return held.draw(question)

    def baseline() -> Allowed:
        return Drawn("leased", "hold_1:1", Decimal(480_000).scaleb(-9), None, "gpt-4o-mini", 500)

    taken: dict[str, list[float]] = {"decision": [], "baseline": []}
    works: tuple[tuple[str, Callable[[], Any]], ...] = (("decision", decide), ("baseline", baseline))
    for _ in range(ROUNDS):
        for name, work in works:
            for _ in range(count // ROUNDS):
                begun = time.perf_counter_ns()
                if work() is None:
                    raise RuntimeError("the lease did not decide")
                taken[name].append((time.perf_counter_ns() - begun) / 1000)
    p50 = {name: statistics.median(values) for name, values in taken.items()}
    p99 = statistics.quantiles(taken["decision"], n=100)[98]
    return {
        "decisions": len(taken["decision"]),
        "decision_us_p50": round(p50["decision"], 2),
        "decision_us_p99": round(p99, 2),
        "baseline_us_p50": round(p50["baseline"], 2),
        "ratio": round(p50["decision"] / p50["baseline"], 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
