"""Streams that are cut at random points, by callers who go away."""

from __future__ import annotations

import asyncio
import json
import os
import random
from decimal import Decimal

import httpx
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.programs import beside
from tests.proxy.running import Proxy
from tests.proxy.settling import booked, resolved
from tests.proxy.test_bytes import BEARER
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane
from tests.sdk.test_matrix import USD_PER_MILLION

pytestmark = pytest.mark.real_db

STREAMS = 200
AT_ONCE = 20
SEED = 20261130
TOKENS, PIECE_TOKENS = 120, 4


async def _one(
    http: httpx.AsyncClient, number: int, headers: dict[str, str], chance: random.Random
) -> int | None:
    """A stream that is read up to a random piece and left there; how many pieces were seen, None for all."""
    anthropic = number % 2 == 0
    path = "/anthropic/v1/messages" if anthropic else "/openai/v1/chat/completions"
    body = {
        "model": "claude-haiku-4-5" if anthropic else "gpt-4o-mini",
        "max_tokens": 500,
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    stop = chance.randrange(0, TOKENS // PIECE_TOKENS + 12)
    more = {"x-noburn-tags": f"n={number}", "x-double-label": str(number)}
    seen = 0
    async with http.stream("POST", path, content=json.dumps(body), headers={**headers, **more}) as answer:
        assert answer.status_code == 200
        if stop == 0:
            return 0
        async for line in answer.aiter_lines():
            if "text_delta" in line or '"content"' in line:
                seen += 1
                if seen >= stop:
                    return seen
    return None


async def _all(url: str, headers: dict[str, str], chance: random.Random) -> dict[int, int | None]:
    gate = asyncio.Semaphore(AT_ONCE)
    found: dict[int, int | None] = {}
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120, trust_env=False) as http:

        async def one(number: int) -> None:
            async with gate:
                found[number] = await _one(http, number, headers, chance)

        await asyncio.gather(*(one(number) for number in range(STREAMS)))
    return found


class TestTwoHundredStreams:
    def test_cut_at_random_points_settle_by_what_was_seen(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer("10")
        double.control(output_tokens=TOKENS, chunk_tokens=PIECE_TOKENS, chunk_delay_ms=3)
        seed = int(os.environ.get("NOBURN_STREAMS_SEED", SEED))
        headers = {**BEARER, **headers_of(plane, acme.name)}
        seen = beside(plane, lambda: asyncio.run(_all(proxy.url, headers, random.Random(seed))))
        entries = booked(acme, STREAMS)
        billed = {call["label"]: call for call in double.ledger()}
        assert len(billed) == STREAMS
        kinds: dict[str, int] = {}
        for entry in entries:
            call = billed[entry["tags"]["n"]]
            pieces = seen[int(entry["tags"]["n"])]
            what = f"{entry['kind']} {entry['outcome']}"
            kinds[what] = kinds.get(what, 0) + 1
            if entry["kind"] == "settled":
                told = entry["usage"]["output_tokens"]
                # Never less than the caller got; never more than the provider made.
                assert told >= (TOKENS if pieces is None else min(TOKENS, max(0, pieces - 2) * PIECE_TOKENS))
                # Claude's tokens can only be bounded: what was seen of it counts for a little more.
                assert told <= (TOKENS * 3 // 2 if "claude" in call["model"] else TOKENS)
                rates = USD_PER_MILLION[call["model"]]
                cost = entry["usage"]["input_tokens"] * rates[0] + told * rates[1]
                assert Decimal(entry["cost_usd"]) == cost / 10**6
            else:
                # Nothing of it was seen, so all of its hold counts.
                assert entry["kind"] == "presumed"
                assert entry["outcome"] == "cut"
        resolved(acme, Decimal(10) - sum(Decimal(entry["cost_usd"]) for entry in entries))
        # Both kinds of ends happened, or nothing was shown.
        assert kinds["settled cut"] > 20
        assert kinds["settled ok"] > 20
        # Who goes away stops the provider: it did not make what nobody reads.
        assert double.summary()["outcomes"]["disconnected"] > 20
