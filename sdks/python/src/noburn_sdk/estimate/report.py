"""An estimate in words, for people who want to see what a bound is made of."""

from __future__ import annotations

from noburn_sdk.estimate.types import Estimate

HOW = {
    "exact": "counted, or by a published formula",
    "bytes": "UTF-8 bytes, which no byte-level tokenizer exceeds",
    "measured": "a bound that held in every measured case",
    "maximum": "the most that is documented",
    "unknown": "known to the provider alone",
}


def explain(found: Estimate) -> str:
    """Returns a table of an estimate's parts, and lines on output, caching, tools, cost and warnings."""
    rows = [("input", "tokens", "how", "")]
    for part in sorted(found.parts, key=lambda part: -part.tokens):
        name = part.kind if part.count == 1 else f"{part.kind} ({part.count})"
        rows.append((name, f"{part.tokens:,}", part.how, part.note or HOW[part.how]))
    rows.append(("at most", f"{found.input_tokens:,}", found.how, "" if found.complete else "partly assumed"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{found.api}  {found.model}", ""]
    for name, tokens, how, note in rows:
        lines.append(f"{name:<{widths[0]}}  {tokens:>{widths[1]}}  {how:<{widths[2]}}  {note}".rstrip())
    return "\n".join([*lines, "", *_facts(found)])


def _facts(found: Estimate) -> list[str]:
    lines = []
    if found.has_output:
        lines.append(f"output: {_output(found)}")
    if found.cached_input_tokens is None:
        lines.append("cache: any of the input may be written")
    elif found.cached_input_tokens:
        lines.append(f"cache: at most {found.cached_input_tokens:,} of the input are written")
    if found.images or found.audio:
        seen = [f"images ({found.images})"] if found.images else []
        if found.audio:
            seen.append("audio" if found.complete else "perhaps audio")
        lines.append("beside text: " + ", ".join(seen))
    if found.tools:
        lines.append("fees: " + ", ".join(f"{name} x {uses}" for name, uses in sorted(found.tools.items())))
    if found.service_tier:
        lines.append(f"service tier: {found.service_tier}")
    if found.cost_nano is not None:
        lines.append(f"cost: at most {usd(found.cost_nano)} USD")
    if found.exceeds_limit:
        lines.append("limit: exceeded")
    return [*lines, *(f"note: {warning}" for warning in found.warnings)]


def _output(found: Estimate) -> str:
    if found.max_output_tokens is None:
        return "no cap; the tenant's default is held, and must be put into the request"
    many = f"{found.n} x {found.max_output_tokens:,} = " if found.n > 1 else ""
    injected = ", to be put into the request, which has no cap" if found.inject_cap else ""
    return f"at most {many}{found.output_tokens:,} tokens{injected}"


def usd(nano: int) -> str:
    """Returns an amount of nano-USD as a decimal string."""
    whole, part = divmod(nano, 10**9)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".")
