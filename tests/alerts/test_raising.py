"""An alert is raised once for its key, with what must happen, or not at all."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction

from alerts.domain.kinds import KINDS, UnknownKind, kind_of
from alerts.models import Alert, Delivery
from alerts.services.alerts import BadAlert, NewAlert, raise_alert, raise_alerts
from tests.alerts.desk import Desk
from tests.doubles.webhook import WebhookReceiver
from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db


def made(desk: Desk, key: str, **fields: object) -> NewAlert:
    return NewAlert(
        **{"tenant_id": desk.tenant_id, "kind": "threshold", "dedupe_key": key, "subject": "bud_x", **fields}  # type: ignore[arg-type]
    )


class TestRaiseAlert:
    def test_raises_each_key_once(self, desk: Desk) -> None:
        assert desk.alert("a")
        assert not desk.alert("a")
        assert desk.alert("b")
        assert {alert.dedupe_key for alert in desk.alerts()} == {"a", "b"}
        assert len(desk.alerts()) == 2

    def test_keeps_tenants_apart(self, desk: Desk, cast: Cast) -> None:
        charlie = Desk(cast.charlie.tenant.pk)
        charlie.destination("email", "charlie@example.com")
        assert desk.alert("a")
        assert charlie.alert("a")
        assert desk.deliveries() == []
        assert len(charlie.deliveries()) == 1

    def test_makes_a_delivery_for_each_destination_that_wants_the_kind(self, desk: Desk) -> None:
        everything = desk.destination("email", "all@example.com")
        some = desk.destination("email", "some@example.com", alert_kinds=["threshold", "drift"])
        desk.destination("email", "others@example.com", alert_kinds=["wallet_low"])
        off = desk.destination("email", "off@example.com")
        desk.change(off, enabled=False)
        desk.alert()
        wanted = {everything.destination.pk, some.destination.pk}
        assert {delivery.destination_id for delivery in desk.deliveries()} == wanted

    def test_leaves_nothing_behind_when_its_transaction_is_undone(self, desk: Desk) -> None:
        desk.destination("email", "a@example.com")

        def raised_and_undone() -> None:
            with transaction.atomic():
                assert desk.alert("a")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            raised_and_undone()
        assert desk.alerts() == []
        assert desk.deliveries() == []
        assert desk.alert("a")

    def test_hints_only_after_the_commit(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        hints: list[str] = []
        monkeypatch.setattr("alerts.services.hints.hint", lambda task, **_: hints.append(task))
        desk.destination("email", "a@example.com")
        with transaction.atomic():
            desk.alert("a")
            assert hints == []
        assert hints == ["alerts.deliver"]
        desk.alert("a")
        assert len(hints) == 1

    def test_does_not_need_a_broker(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from noburn.kit import jobs

        lost = jobs._producer.__wrapped__()
        lost.conf.update(broker_url="redis://:hidden@127.0.0.1:9/0")
        monkeypatch.setattr(jobs, "_producer", lambda: lost)
        desk.destination("email", "a@example.com")
        assert desk.alert("a")
        assert len(desk.deliveries()) == 1
        assert "the broker took no hint" in caplog.text
        assert "hidden" not in caplog.text

    def test_takes_the_key_of_a_silent_one_and_tells_nobody(self, desk: Desk) -> None:
        desk.destination("email", "a@example.com")
        assert raise_alerts(alerts=[made(desk, "a", silent=True)], now=desk.now) == 1
        assert not desk.alert("a")
        assert desk.deliveries() == []

    def test_refuses_what_is_not_an_alert(self, desk: Desk) -> None:
        with pytest.raises(UnknownKind):
            desk.alert(kind="gossip")
        with pytest.raises(BadAlert, match="decimal strings"):
            desk.alert(spent=0.1)
        with pytest.raises(BadAlert, match="not JSON"):
            desk.alert(spent=object())
        with pytest.raises(BadAlert, match="bytes"):
            desk.alert(spent="9" * 10_000)
        with pytest.raises(BadAlert, match="1 to 200"):
            desk.alert("k" * 201)
        assert desk.alerts() == []

    def test_raises_one_of_the_installation_once(self, desk: Desk, cast: Cast) -> None:
        key = f"test:{cast.tenant.pk}"
        told = {"kind": "drift", "dedupe_key": key, "subject": "x", "details": {}, "now": desk.now}
        assert raise_alert(tenant_id=None, **told)  # type: ignore[arg-type]
        assert not raise_alert(tenant_id=None, **told)  # type: ignore[arg-type]
        assert Alert.objects.filter(dedupe_key=key).count() == 1


class TestAlertStorm:
    def test_of_the_same_keys_from_everywhere_is_one_message_each_and_deadlocks_nobody(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        endpoint = desk.webhook(receiver.url)
        keys = [f"storm:{number}" for number in range(100)]
        callers, calls = 8, 13
        start = Barrier(callers)

        def storm(seed: int) -> int:
            own, new = random.Random(seed), 0
            try:
                start.wait()
                for _ in range(calls):
                    shuffled = own.sample(keys, len(keys))
                    new += raise_alerts(alerts=[made(desk, key) for key in shuffled], now=desk.now)
            finally:
                connection.close()
            return new

        with ThreadPoolExecutor(callers) as pool:
            new = sum(pool.map(storm, range(callers)))
        assert callers * calls * len(keys) >= 10_000
        assert new == len(keys) == len(desk.alerts()) == len(desk.deliveries())
        assert len({delivery.alert_id for delivery in desk.deliveries()}) == len(keys)
        desk.deliver()
        assert len(receiver.received) == len(keys)
        assert len({got.verify(endpoint.secret)["data"]["id"] for got in receiver.received}) == len(keys)

    def test_of_ten_thousand_is_one_statement(self, desk: Desk) -> None:
        desk.destination("email", "a@example.com")
        many = [made(desk, f"many:{number}") for number in range(10_000)]
        assert raise_alerts(alerts=many, now=desk.now) == 10_000
        assert Delivery.objects.filter(tenant_id=desk.tenant_id).count() == 10_000
        with pytest.raises(BadAlert, match="at most"):
            raise_alerts(alerts=[*many, many[0]], now=desk.now)


class TestKind:
    @pytest.mark.parametrize("name", KINDS)
    def test_has_a_text_for_any_details(self, name: str) -> None:
        kind = kind_of(name)
        for details in ({}, {"percent": None, "spent": "1", "x\n": "a\r\nb"}, {"percent": 100}):
            text = kind.text(details)
            assert text.title.strip()
            assert all("\n" not in line and "\r" not in line for line in (text.title, *text.lines))

    def test_of_a_threshold_says_what_was_spent_of_what(self) -> None:
        details = {"budget_name": "web", "percent": 80, "spent": "8", "limit": "10", "metric": "usd"}
        text = kind_of("threshold").text(details)
        assert text.title == "80 % of web is spent"
        assert "Spent: $8 of $10" in text.lines
        one = kind_of("threshold").text({**details, "scope": "customer", "subject": "acme"})
        assert one.title == "80 % of web is spent by acme"
        tokens = kind_of("threshold").text({**details, "metric": "tokens"})
        assert "Spent: 8 tokens of 10 tokens" in tokens.lines

    def test_is_graver_where_a_budget_is_used_up(self) -> None:
        threshold = kind_of("threshold")
        assert threshold.severity_of({"percent": 80}) == "warning"
        assert threshold.severity_of({"percent": 100}) == "critical"
