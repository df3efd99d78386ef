"""The double's own ends: controls, script, ledger, many callers at once."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.doubles.provider import ProviderDouble
from tests.doubles.provider.app import BODY_MAX
from tests.doubles.provider.calls import Call, meter
from tests.doubles.provider.controls import Controls, Plan

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}


def post(
    double: ProviderDouble, headers: dict[str, str] | None = None, body: Any = BODY, times: int = 1
) -> list[int]:
    """Sends the same chat call over one connection and returns the statuses."""
    connection = http.client.HTTPConnection("127.0.0.1", double.port, timeout=20)
    statuses = []
    for _ in range(times):
        raw = body if isinstance(body, bytes) else json.dumps(body)
        connection.request("POST", "/v1/chat/completions", raw, headers or {})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


class TestControls:
    def test_prefers_headers_to_script_to_defaults(self, double: ProviderDouble) -> None:
        double.control(output_tokens=1, label="default", script=[{"output_tokens": 2}, {"output_tokens": 3}])
        post(double)
        post(double, {"x-double-output-tokens": "4", "x-double-label": "header"})
        post(double)
        found = [(entry["metered"]["output_tokens"], entry["label"]) for entry in double.ledger()]
        assert found == [(2, "default"), (4, "header"), (1, "default")]

    def test_names_every_bad_setting_and_changes_nothing(self, double: ProviderDouble) -> None:
        with pytest.raises(ValueError, match=r"(?s)script\[0\].*colour.*output_fraction"):
            double.control(output_fraction=2, output_tokens=3, colour="red", script=[{"fail_status": 200}])
        assert double.control()["defaults"]["output_tokens"] == 24

    def test_refuses_a_bad_header(self, double: ProviderDouble) -> None:
        assert post(double, {"x-double-output-tokens": "many"}) == [400]

    def test_repeats_chance_from_a_seed(self, double: ProviderDouble) -> None:
        runs = []
        for seed in (7, 7, 8):
            double.control(seed=seed, fail_status=503, fail_rate=0.5)
            runs.append(post(double, times=40))
        assert runs[0] == runs[1] != runs[2]
        assert set(runs[0]) == {200, 503}

    def test_jitters_within_its_range(self) -> None:
        controls = Controls()
        plan = Plan(latency_ms=10, jitter_ms=5)
        delays = [controls.delay_seconds(plan) for _ in range(100)]
        assert min(delays) >= 0.010
        assert max(delays) <= 0.015
        assert len(set(delays)) > 90

    @pytest.mark.parametrize(("cap", "expected"), [(1000, 250), (None, 1024), (3, 1)])
    def test_sizes_output_as_a_share_of_the_cap(self, cap: int | None, expected: int) -> None:
        call = Call(seq=1, model="m", input_tokens=1, cap=cap)
        assert meter(call, Plan(output_fraction=0.25)).output_tokens == expected


class TestLedger:
    def test_sums_by_model_customer_and_outcome(self, double: ProviderDouble) -> None:
        post(double, {"x-double-customer": "acme", "x-noburn-run": "r1"})
        post(double, body=BODY | {"user": "globex"})
        post(double, {"x-double-fail-status": "500"})
        summary = double.summary()
        assert summary["requests"] == 3
        assert summary["open"] == 0
        assert summary["outcomes"] == {"ok": 2, "error": 1}
        assert summary["statuses"] == {"200": 2, "500": 1}
        assert summary["customers"]["acme"]["output_tokens"] == 10
        assert summary["customers"]["globex"]["input_tokens"] == 8
        assert summary["models"]["gpt-4o-mini"]["requests"] == 3
        assert double.ledger()[0]["noburn_headers"] == ["x-noburn-run"]

    def test_pages_by_sequence(self, double: ProviderDouble) -> None:
        post(double, times=5)
        assert [entry["seq"] for entry in double.ledger(after=2, limit=2)] == [3, 4]

    def test_never_keeps_prompts_or_credentials(self, double: ProviderDouble) -> None:
        canary = "canary-4711"
        message = {"role": "user", "content": canary}
        post(double, {"authorization": f"Bearer {canary}"}, BODY | {"messages": [message]})
        assert canary not in json.dumps(double.ledger())

    def test_bounds_the_body(self, double: ProviderDouble) -> None:
        assert post(double, body=b"x" * (BODY_MAX + 1)) == [413]

    def test_survives_invalid_json_and_unicode(self, double: ProviderDouble) -> None:
        assert post(double, body=b"{") == [400]
        assert post(double, body=b'{"model": "\xff"}') == [400]
        assert post(double, body=[]) == [400]
        assert post(double) == [200]

    def test_counts_every_call_of_many_threads(self, double: ProviderDouble) -> None:
        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda _: post(double, times=25), range(16)))
        assert statuses == [[200] * 25] * 16
        assert double.summary()["outcomes"] == {"ok": 400}
