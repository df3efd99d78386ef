"""`make bench`: every figure of benchmarks/README.md, measured in one run on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys

from benchmarks import sdk
from benchmarks.load import Load, require_wrk, wrk
from benchmarks.settling import place
from benchmarks.system import ROOT, System

BUDGETS = ("tenant:*:8000000:month", "project:*:8000000:month", "customer:*:8000000:month")
CONNECTIONS = 64


def row(name: str, value: str, ratio: str = "") -> None:
    """Prints one line of the table as soon as it is known."""
    print(f"| {name:<58} | {value:>24} | {ratio:>22} |", flush=True)


def bare(system: System, tenant_id: str) -> float:
    """The script's own rate now."""
    command = [sys.executable, "-m", "benchmarks.bare", tenant_id]
    done = subprocess.run(
        command, cwd=ROOT, env=system.environment(), check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def checked(load: Load) -> Load:
    """A load that failed is no measurement."""
    if load.failed or load.said.get("denied"):
        raise RuntimeError(f"calls failed or were refused: {load}")
    return load


def preflights(system: System, workers: int, seconds: int) -> None:
    """Warm pre-flights, half load and first use, beside the bare script in the same minute."""
    made = system.provision("bench", *BUDGETS)
    key, tenant = made["api_key"], made["tenant_id"]
    checked(wrk(system.url, "preflight.lua", seconds=3, connections=CONNECTIONS, key=key, run="warm"))
    script = bare(system, tenant)
    load = checked(
        wrk(system.url, "preflight.lua", seconds=seconds, connections=CONNECTIONS, key=key, run="full")
    )
    after = bare(system, tenant)
    script = (script + after) / 2
    row("the pre-flight script, bare (3 budgets, distinct holds)", f"{script:,.0f}/s")
    row(
        f"pre-flights, {workers} worker{'s' if workers > 1 else ''}, {CONNECTIONS} connections",
        f"{load.rate:,.0f}/s",
        f"{load.rate / script:.2f} of the script",
    )
    row("  p50 / p99 at full load", f"{load.p50_ms:.1f} / {load.p99_ms:.1f} ms")
    delay = round(1000 * CONNECTIONS / (load.rate / 2))
    half = checked(
        wrk(
            system.url,
            "preflight.lua",
            seconds=seconds,
            connections=CONNECTIONS,
            key=key,
            run="half",
            delay_ms=delay,
        )
    )
    row("  p50 / p99 at half load", f"{half.p50_ms:.1f} / {half.p99_ms:.1f} ms", f"at {half.rate:,.0f}/s")
    first = checked(
        wrk(
            system.url,
            "preflight.lua",
            seconds=seconds,
            connections=CONNECTIONS,
            key=key,
            run="first",
            fresh=1,
        )
    )
    row(
        "  first use (each call a new customer)",
        f"{first.rate:,.0f}/s",
        f"{first.rate / load.rate:.2f} of warm",
    )


def settles(system: System, count: int, seconds: int) -> None:
    """Settlements acknowledged, all on one hot set of budgets."""
    made = system.provision("settle", *BUDGETS)
    file = system.home / "tokens"
    file.write_text("\n".join(asyncio.run(place(system.url, made["api_key"], count))) + "\n")
    load = wrk(system.url, "settle.lua", seconds=seconds, connections=128, key=made["api_key"], file=file)
    if load.said["failed"] or load.said["settled"] >= count:
        raise RuntimeError(f"no measurement: {load}")
    row(
        "settlements acknowledged, 3 hot budgets, 128 connections", f"{load.said['settled'] / seconds:,.0f}/s"
    )
    row("  p50 / p99", f"{load.p50_ms:.1f} / {load.p99_ms:.1f} ms")
    system.manage("verify", "--tenant", "settle")


def customers(system: System, most: int, seconds: int) -> None:
    """The same load over more and more customers, each with its own counter."""
    made = system.provision("many", "tenant:*:8000000:month", "customer:*:8000000:month")
    key = made["api_key"]
    base = 0.0
    for count in (10, 1_000, most):
        met = 0
        # Every customer is met before the clock runs: first use is measured by itself.
        while met < count:
            warm = wrk(
                system.url,
                "preflight.lua",
                seconds=5,
                met=met,
                sequence=1,
                run=f"w{count}-{met}",
                connections=CONNECTIONS,
                key=key,
            )
            met += warm.said["allowed"]
        load = checked(
            wrk(
                system.url,
                "preflight.lua",
                seconds=seconds,
                customers=count,
                run=f"m{count}",
                connections=CONNECTIONS,
                key=key,
            )
        )
        base = base or load.rate
        row(
            f"pre-flights over {count:,} customers",
            f"{load.rate:,.0f}/s",
            f"{load.rate / base:.2f} of 10 customers",
        )


def metering(system: System, entries: int, seconds: int) -> None:
    """What the ledger grows by, and what its rollups take in; then their lag under a steady load."""
    made = system.provision("metered", *BUDGETS)
    command = [
        sys.executable,
        "-m",
        "benchmarks.metering",
        made["tenant_id"],
        str(entries),
        "2000",
        str(seconds),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=system.environment(), check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    if found["differences"]:
        raise RuntimeError(f"rollups differ from the ledger: {found}")
    row("ledger entries written by nb_resolve, groups of 200", f"{found['written']:,.0f}/s")
    row(
        "ledger entries rolled up, by one worker",
        f"{found['rolled']:,.0f}/s",
        f"{found['rolled'] / found['written']:.1f} of written",
    )
    row(
        f"rollups behind, at {found['reached']:,.0f} settlements/s: p50 / max",
        f"{found['behind_p50']:.1f} / {found['behind_max']:.1f} s",
    )


def estimates(quick: bool) -> None:
    """Counting a request before the call, beside bare tiktoken, in a process that has counted nothing before."""
    command = [sys.executable, "-m", "benchmarks.estimates", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    for size, one in found["sizes"].items():
        bare_ms = one["tiktoken_ms"]
        row(f"tiktoken, bare, {int(size):,} tokens of English", f"{bare_ms:.2f} ms")
        for name, label in (
            ("count_ms", "counted by the client"),
            ("estimate_ms", "a whole estimate"),
            ("by_bytes_ms", "the same, far below its limit"),
        ):
            row(f"  {label}", f"{one[name]:.2f} ms", f"{one[name] / bare_ms:.2f} of tiktoken")
    bare_ms = found["pasted_tiktoken_ms"]
    row("tiktoken, bare, a pasted document of 6 MB", f"{bare_ms:,.0f} ms")
    row("  refused by a limit of 1,000 tokens", f"{found['refused_ms']:.2f} ms")
    counted = found["refused_counting_ms"]
    row("  refused by a limit of 100,000 tokens", f"{counted:.1f} ms", f"{counted / bare_ms:.2f} of tiktoken")
    row("the first estimate of a process, which loads the ranks", f"{found['first_ms']:.0f} ms")


def clients(system: System, count: int) -> None:
    """What the Python SDK's gate adds to a call of OpenAI's client, beside a pre-flight alone."""
    made = system.provision("clients", *BUDGETS)
    for found in sdk.measure(system.url, made["api_key"], count):
        row(f"{found.kind} by OpenAI's client to the double, bare: p50", f"{found.bare_ms:.2f} ms")
        added = found.gated_ms - found.bare_ms
        row(
            "  the same, gated",
            f"{found.gated_ms:.2f} ms",
            f"{found.gated_ms / found.bare_ms:.2f} of bare",
        )
        row("  what the gate adds", f"{added:.2f} ms", f"{added / found.asked_ms:.2f} of a pre-flight")


def main() -> None:
    """Runs everything; `--quick` for a look, which is no measurement."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    require_wrk()
    seconds = 3 if quick else 10
    row("what", "measured", "ratio")
    row("-" * 58, "-" * 24, "-" * 22)
    estimates(quick)
    for workers in (1, 2):
        with System(workers=workers) as system:
            preflights(system, workers, seconds)
            if workers == 2:
                settles(system, 20_000 if quick else 60_000, 2 if quick else 6)
                customers(system, 10_000 if quick else 100_000, seconds)
                clients(system, 200 if quick else 1_000)
                metering(system, 10_000 if quick else 60_000, 2 * seconds)


if __name__ == "__main__":
    main()
