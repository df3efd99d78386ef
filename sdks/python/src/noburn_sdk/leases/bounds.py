"""The bound of a call at one model's rates, fast: what `estimate.cost.bound_nano` says, with its sums made beforehand."""

from __future__ import annotations

from bisect import bisect_left

from noburn_sdk._requests import Preflight
from noburn_sdk.estimate.cost import Rates, _ceilings, bound_nano

_STANDARD = (None, "", "default", "standard")


class Bounds:
    """Bounds by one model's rates. Raises UnpricedError where something has no price."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        units = rates.units
        self._starts = sorted({start for pairs in units.values() for start, _ in pairs} | {0})
        # By how many tiers an input reaches into: the dearest rates of plain input, of cached input, and of output.
        self._ceilings = [_ceilings(units, start + 1, True) for start in self._starts]
        self._fee = units["requests"][0][1] if "requests" in units else 0
        self._plain = "input_tokens" in units

    def nano(self, asked: Preflight, cap: int) -> int:
        """The most that a call can cost with this output cap, in nano-USD."""
        tokens = asked.input_tokens
        if (
            asked.images
            or asked.tools
            or asked.audio
            or asked.service_tier not in _STANDARD
            or not self._plain
        ):
            return bound_nano(
                self.rates,
                input_tokens=tokens,
                max_output_tokens=cap,
                n=asked.n,
                cached_input_tokens=asked.cached_input_tokens,
                text_only=not (asked.images or asked.audio),
                images=asked.images or 0,
                tool_calls=asked.tools,
                service_tier=asked.service_tier,
            )
        plain, held, output = self._ceilings[max(0, bisect_left(self._starts, tokens) - 1)]
        cached = asked.cached_input_tokens
        cached = tokens if cached is None or cached > tokens else cached
        pico = (tokens - cached) * plain + cached * held + self._fee + cap * asked.n * output
        return -(-pico // 1000)
