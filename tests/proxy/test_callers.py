"""Virtual keys and what their calls may say: by headers, by the body's metadata, and never beyond the key."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from proxy import keys
from tests.proxy.conftest import Keys, Start
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.proxy.test_bytes import ANSWER, CHAT, ODD
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Customer, Plane

pytestmark = pytest.mark.real_db

SECONDS = 120


@pytest.fixture
def http(proxy: Proxy, recorder: Recorder) -> Iterator[httpx.Client]:
    recorder.answer = Told(pieces=[ANSWER])
    with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as made:
        yield made


def by(key: str, **said: str) -> dict[str, str]:
    named = {f"x-noburn-{name.replace('_', '-')}": value for name, value in said.items()}
    return {"authorization": f"Bearer {key}", "content-type": "application/json", **named}


class TestVirtualKeys:
    @pytest.mark.parametrize(
        "said",
        [
            {"customer": "other"},
            {"user": "u"},
            {"project": "p"},
            {"plan": "gold"},
            {"tags": "team=red"},
            {"cost_usd": "0"},
            {"max_input_tokens": "1"},
            {"provider": "groq"},
        ],
    )
    def test_allow_no_header_to_say_more_than_they_do(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, said: dict[str, str]
    ) -> None:
        answer = http.post(CHAT, content=ODD, headers=by(virtual["acme"], **said))
        assert (answer.status_code, answer.headers["x-noburn-reason"]) == (403, "not_allowed")
        assert next(iter(said)) in answer.json()["error"]["message"]
        assert recorder.seen == []

    def test_let_headers_name_a_part_and_repeat_what_they_say(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, house: Plane
    ) -> None:
        before = len(Customer(house, "house-acme").ledger())
        said = {"customer": "house-acme", "run": "r1", "tags": "team=blue,feature=x"}
        assert http.post(CHAT, content=ODD, headers=by(virtual["acme"], **said)).status_code == 200
        entry = booked(Customer(house, "house-acme"), before + 1)[-1]
        assert entry["tags"] == {"team": "blue", "feature": "x"}

    def test_may_be_bound_to_upstreams_and_models(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys
    ) -> None:
        assert http.post(CHAT, content=ODD, headers=by(virtual["narrow"])).status_code == 403
        other = ODD.replace(b"gpt-4o-mini", b"gpt-4")
        assert (
            http.post("/openai/v1/chat/completions", content=other, headers=by(virtual["narrow"])).status_code
            == 403
        )
        said = by(virtual["narrow"], run="r1")
        assert http.post("/openai/v1/chat/completions", content=ODD, headers=said).status_code == 403

    def test_without_a_customer_take_it_from_the_header(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, house: Plane
    ) -> None:
        someone = house.customer()
        assert (
            http.post(CHAT, content=ODD, headers=by(virtual["open"], customer=someone.name)).status_code
            == 200
        )
        assert booked(someone)[0]["kind"] == "settled"

    def test_that_fit_fit_without_being_asked(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys, house: Plane
    ) -> None:
        poor = house.customer("0.00001")
        answer = http.post(CHAT, content=ODD, headers=by(virtual["fitting"], customer=poor.name))
        assert int(answer.headers["x-noburn-max-output-tokens"]) < 50


class TestHeaders:
    def test_that_are_unknown_or_odd_are_named_and_refused(
        self, http: httpx.Client, recorder: Recorder, plane: Plane
    ) -> None:
        said = {**by("sk-x", custmer="acme", fit="maybe", wait_ms="99999999", max_input_tokens="x")}
        answer = http.post(CHAT, content=ODD, headers={**said, "x-noburn-key": plane.secret})
        assert answer.status_code == 400
        errors = answer.json()["error"]["noburn"]["errors"]
        assert set(errors) == {
            "x-noburn-custmer",
            "x-noburn-fit",
            "x-noburn-wait-ms",
            "x-noburn-max-input-tokens",
        }
        assert recorder.seen == []

    def test_are_held_to_the_rules_where_nothing_is_billed_too(
        self, http: httpx.Client, recorder: Recorder, virtual: Keys
    ) -> None:
        assert (
            http.get("/recorder/v1/models", headers=by(virtual["acme"], customer="other")).status_code == 403
        )


class TestTenantKeys:
    def test_that_noburn_does_not_take_are_refused(self, http: httpx.Client, recorder: Recorder) -> None:
        said = {**by("sk-x"), "x-noburn-key": "nb_live_" + "x" * 38}
        for _ in range(2):
            answer = http.post(CHAT, content=ODD, headers=said)
            assert (answer.status_code, answer.headers["x-noburn-reason"]) == (401, "noburn_key")
        assert recorder.seen == []

    def test_without_a_key_for_the_provider_hold_nothing(
        self, http: httpx.Client, recorder: Recorder, plane: Plane
    ) -> None:
        acme = plane.customer()
        said = {"content-type": "application/json", **headers_of(plane, acme.name)}
        answer = http.post(CHAT, content=ODD, headers=said)
        assert (answer.status_code, answer.headers["x-noburn-reason"]) == (401, "upstream_key")
        assert acme.ledger() == []


class TestAnyone:
    def test_may_call_where_that_is_said_by_the_base_url_alone(
        self, start: Start, recorder: Recorder, house: Plane
    ) -> None:
        proxy = start(callers={"accept": ["anyone"], "anyone": {"customer": "house-anyone"}})
        recorder.answer = Told(pieces=[ANSWER])
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            assert http.post(CHAT, content=ODD, headers=by("sk-mine")).status_code == 200
        assert recorder.seen[0].header("authorization") == "Bearer sk-mine"
        booked(Customer(house, "house-anyone"))


class TestMetadata:
    def test_says_whom_a_call_is_for_where_the_key_leaves_that_open(
        self, start: Start, recorder: Recorder, house: Plane
    ) -> None:
        opened, fixed = keys.make(), keys.make()
        mine, theirs = house.customer(), house.customer()
        proxy = start(
            attribution={"metadata": {"customer": "metadata.customer", "user": "user"}},
            keys=[
                {"name": "opened", "hash": keys.hash_of(opened), "may": ["customer", "user"]},
                {"name": "fixed", "hash": keys.hash_of(fixed), "customer": theirs.name},
            ],
        )
        recorder.answer = Told(pieces=[ANSWER])
        body = ODD.replace(b'"n":null', b'"user":"u1","metadata":{"customer":"%s"}' % mine.name.encode())
        with httpx.Client(base_url=proxy.url, timeout=SECONDS, trust_env=False) as http:
            for key in (opened, fixed):
                assert http.post(CHAT, content=body, headers=by(key)).status_code == 200
        assert [seen.body for seen in recorder.seen] == [body, body]
        booked(mine)
        booked(theirs)
