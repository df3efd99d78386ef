"""A delivery goes out signed, comes again until it arrives or a day is over, and its every attempt is written down."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django.fixtures import Settings
from standardwebhooks.webhooks import WebhookVerificationError

from alerts.domain.retries import ATTEMPTS_MAX, RETRY_SECONDS, next_attempt_at
from alerts.models import Alert, Attempt, Delivery, Destination
from alerts.services.alerts import KEEP, raise_alert
from alerts.services.deliveries import (
    KEEP_DELIVERIES,
    LEASE,
    DeliveryNotFound,
    InvalidReplay,
    deliver_batch,
    prune,
    replay,
)
from alerts.services.destinations import ping_destination, rotate_secret
from alerts.services.operators import keep_destinations
from alerts.stores import deliveries as store
from noburn.kit import ids
from noburn.kit.outgoing import Outgoing
from tenants.models import AuditEntry
from tests.alerts.desk import ACTOR, Desk
from tests.doubles.smtp import MailServer
from tests.doubles.webhook import WebhookReceiver
from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db


def play_again(desk: Desk, delivery: Delivery) -> Delivery:
    return replay(tenant_id=desk.tenant_id, delivery_id=delivery.pk, actor=ACTOR, now=desk.now)


class TestWebhook:
    def test_is_signed_by_the_standard(self, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        desk.alert()
        assert desk.deliver() == 1
        (got,) = receiver.received
        body = got.verify(made.secret)
        assert got.id == ids.encode(ids.DELIVERY, desk.only().pk)
        assert got.path == "/hooks?for=noburn"
        assert body["type"] == "alert.threshold"
        (alert,) = desk.alerts()
        assert body["data"]["id"] == ids.encode(ids.ALERT, alert.pk)
        assert body["data"]["tenant"] == ids.encode(ids.TENANT, desk.tenant_id)
        assert body["data"]["title"] == "80 % of web is spent"
        assert body["data"]["details"] == alert.details
        assert desk.only().state == "delivered"

    def test_is_not_what_another_secret_signs(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        other = "whsec_" + base64.b64encode(b"x" * 32).decode()
        with pytest.raises(WebhookVerificationError):
            receiver.received[0].verify(other)

    def test_is_signed_twice_while_a_rotation_lasts(self, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        again = rotate_secret(
            tenant_id=desk.tenant_id,
            destination_id=made.destination.pk,
            overlap=timedelta(hours=1),
            actor=ACTOR,
            now=desk.now,
        )
        desk.alert()
        desk.deliver()
        desk.later(hours=1)
        desk.alert()
        desk.deliver()
        during, after = receiver.received
        assert during.verify(made.secret) == during.verify(again.secret)
        assert len(during.headers["webhook-signature"].split(" ")) == 2
        assert after.is_signed_by(again.secret)
        assert not after.is_signed_by(made.secret)

    def test_says_the_same_under_the_same_id_in_every_attempt(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        receiver.answers = [500, 503]
        made = desk.webhook(receiver.url)
        desk.alert()
        for _ in range(3):
            desk.deliver()
            desk.later(hours=1)
        assert len(receiver.received) == 3
        assert len({got.id for got in receiver.received}) == 1
        assert len({got.body for got in receiver.received}) == 1
        assert all(got.is_signed_by(made.secret) for got in receiver.received)
        assert len({got.headers["webhook-timestamp"] for got in receiver.received}) == 3

    def test_goes_to_no_private_address_whatever_was_stored(
        self, desk: Desk, receiver: WebhookReceiver, settings: Settings
    ) -> None:
        desk.webhook(receiver.url)
        desk.webhook("https://hooks.example/")
        settings.NOBURN_ALLOW_PRIVATE_WEBHOOKS = False
        desk.alert()
        desk.deliver(Outgoing(resolver=lambda host, port: ["10.0.0.1"]))
        assert receiver.received == []
        errors = sorted(attempt.error for one in desk.deliveries() for attempt in desk.history(one))
        assert errors == [
            "must begin with https://",
            "the host's name has a private, local or reserved address",
        ]

    def test_follows_no_redirect(self, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.headers = 307, {"Location": receiver.url}
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        assert len(receiver.received) == 1
        (attempt,) = desk.history(desk.only())
        assert (attempt.status, attempt.error) == (307, "answered 307; redirects are not followed")

    def test_that_cannot_be_unsealed_fails_alone(self, desk: Desk, receiver: WebhookReceiver) -> None:
        lost = desk.webhook(receiver.url)
        desk.webhook(receiver.url)
        row = Destination.objects.filter(pk=lost.destination.pk)
        sealed = row.get().secret
        row.update(secret="gAAAAA")
        desk.alert()
        desk.deliver()
        assert len(receiver.received) == 1
        failed = next(one for one in desk.deliveries() if one.destination_id == lost.destination.pk)
        assert desk.history(failed)[0].error == "no key of NOBURN_ENCRYPTION_KEYS opens this"
        # Others of this database look at everything that is sealed.
        row.update(secret=sealed)


class TestSlack:
    def test_gets_text_and_blocks_that_mention_nobody(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.destination("slack", receiver.url)
        desk.alert(budget_name="<!channel> & co")
        desk.deliver()
        (got,) = receiver.received
        assert "webhook-signature" not in got.headers
        assert "&lt;!channel&gt; &amp; co" in got.json["text"]
        assert "<!channel>" not in got.json["text"]
        header, section, _ = got.json["blocks"]
        assert header["text"] == {"type": "plain_text", "text": "80 % of <!channel> & co is spent (warning)"}
        assert section["text"]["type"] == "mrkdwn"
        assert "<" not in section["text"]["text"]

    def test_is_asked_again_when_it_says_so(self, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.headers = 429, {"Retry-After": "600"}
        desk.destination("slack", receiver.url)
        desk.alert()
        desk.deliver()
        assert timedelta(seconds=599) < desk.only().next_attempt_at - desk.now < timedelta(seconds=660)


class TestEmail:
    def test_arrives_as_a_message_with_a_stable_id(self, desk: Desk, mail: MailServer) -> None:
        desk.destination("email", "ops@example.com")
        desk.alert(budget_name="web\r\nBcc: everybody@example.com")
        desk.deliver()
        (message,) = mail.messages
        assert mail.recipients == ["ops@example.com"]
        assert message["Subject"] == "[noburn] 80 % of web Bcc: everybody@example.com is spent"
        assert message["Bcc"] is None
        assert message["Message-ID"].startswith(f"<{ids.encode(ids.DELIVERY, desk.only().pk)}@")
        assert "Spent: $8 of $10" in message.get_content()
        assert desk.only().state == "delivered"

    def test_is_tried_again_when_refused(self, desk: Desk, mail: MailServer) -> None:
        mail.refused.add("gone@example.com")
        desk.destination("email", "gone@example.com")
        desk.alert()
        desk.deliver()
        (attempt,) = desk.history(desk.only())
        assert (attempt.status, attempt.error) == (550, "the mail server refused the recipient")
        mail.refused.clear()
        desk.later(minutes=1)
        desk.deliver()
        assert desk.only().state == "delivered"

    def test_is_tried_again_when_no_server_answers(
        self, desk: Desk, mail: MailServer, settings: Settings
    ) -> None:
        settings.EMAIL_PORT = 9
        desk.destination("email", "ops@example.com")
        desk.alert()
        desk.deliver()
        (attempt,) = desk.history(desk.only())
        assert attempt.error == "the mail server failed: ConnectionRefusedError"


class TestRetries:
    def test_go_on_for_about_a_day_and_then_end(self, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.status, receiver.body = 500, b"<b>oh</b>\0" + b"x" * 5_000
        desk.webhook(receiver.url)
        desk.alert()
        raised_at, pauses = desk.now, []
        while desk.deliver():
            delivery = desk.only()
            if delivery.state != "pending":
                break
            assert desk.deliver() == 0
            pauses.append(round((delivery.next_attempt_at - desk.now).total_seconds()))
            desk.now = delivery.next_attempt_at
        assert pauses == list(RETRY_SECONDS)
        assert timedelta(hours=22) < desk.now - raised_at < timedelta(hours=26)
        assert delivery.state == "failed"
        history = desk.history(delivery)
        assert [attempt.number for attempt in history] == list(range(1, ATTEMPTS_MAX + 1))
        assert {attempt.status for attempt in history} == {500}
        assert history[0].excerpt == "<b>oh</b> " + "x" * 490
        desk.later(days=2)
        assert desk.deliver() == 0

    def test_are_spread_by_chance(self, desk: Desk) -> None:
        def pause(chance: float, failures: int) -> float:
            at = next_attempt_at(failures=failures, now=desk.now, chance=chance, retry_after_seconds=None)
            assert at is not None
            return (at - desk.now).total_seconds()

        for failures, seconds in enumerate(RETRY_SECONDS, 1):
            assert pause(0, failures) == pytest.approx(0.8 * seconds)
            assert pause(1, failures) == pytest.approx(1.2 * seconds)
        nothing = next_attempt_at(failures=ATTEMPTS_MAX, now=desk.now, chance=0.5, retry_after_seconds=5)
        assert nothing is None

    def test_wait_no_longer_than_an_hour_because_a_server_asks(self, desk: Desk) -> None:
        at = next_attempt_at(failures=1, now=desk.now, chance=0.5, retry_after_seconds=10**8)
        assert at == desk.now + timedelta(hours=1)

    def test_keep_nobody_else_waiting(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook("http://127.0.0.1:9/")
        for _ in range(50):
            desk.alert()
        desk.webhook(receiver.url)
        desk.alert()
        # One batch: the many of one destination do not fill it.
        deliver_batch(now=desk.now)
        assert len(receiver.received) == 1

    def test_of_one_tenant_keep_no_other_tenant_waiting(
        self, desk: Desk, receiver: WebhookReceiver, cast: Cast
    ) -> None:
        for _ in range(20):
            desk.webhook("http://127.0.0.1:9/")
        for _ in range(5):
            desk.alert()
        desk.later(seconds=1)
        charlie = Desk(cast.charlie.tenant.pk)
        charlie.now = desk.now
        charlie.webhook(receiver.url)
        charlie.alert()
        assert deliver_batch(now=desk.now) == 16
        assert len(receiver.received) == 1


class TestGivingUp:
    def test_switches_an_endpoint_off_that_answers_410(self, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.status = 410
        made = desk.webhook(receiver.url)
        other = desk.destination("email", "ops@example.com", alert_kinds=["drift"])
        desk.alert()
        desk.alert()
        desk.deliver()
        gone = Destination.objects.get(pk=made.destination.pk)
        assert (gone.enabled, gone.disabled_because) == (False, "gone")
        states = [one.state for one in desk.deliveries() if one.destination_id == gone.pk]
        assert "pending" not in states
        told = [one for one in desk.deliveries() if one.destination_id == other.destination.pk]
        assert [one.alert.kind for one in told] == ["destination_disabled"]
        entry = AuditEntry.objects.get(tenant_id=desk.tenant_id, action="destination.switch_off")
        assert entry.after is not None
        assert (entry.actor, entry.after["disabled_because"]) == ("system", "gone")

    def test_switches_a_destination_off_that_fails_for_days(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        receiver.status = 500
        made = desk.webhook(receiver.url)
        began = desk.now
        while Destination.objects.get(pk=made.destination.pk).enabled:
            assert desk.now - began < timedelta(days=4)
            desk.alert()
            desk.deliver()
            desk.later(hours=6)
        assert desk.now - began >= timedelta(days=3)
        failing = Destination.objects.get(pk=made.destination.pk)
        assert (failing.enabled, failing.disabled_because) == (False, "failing")

    def test_forgets_failures_once_something_arrives(self, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        receiver.answers = [500]
        desk.alert()
        desk.deliver()
        assert Destination.objects.get(pk=made.destination.pk).failures == 1
        desk.later(days=4)
        desk.deliver()
        found = Destination.objects.get(pk=made.destination.pk)
        assert (found.failures, found.failing_since, found.enabled) == (0, None, True)

    def test_makes_nothing_for_what_was_switched_off_meanwhile(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        made = desk.webhook(receiver.url)
        desk.alert()
        Destination.objects.filter(pk=made.destination.pk).update(enabled=False)
        desk.deliver()
        assert receiver.received == []
        assert desk.only().state == "cancelled"


class TestClaims:
    def test_of_two_workers_at_once_never_send_the_same(self, desk: Desk, receiver: WebhookReceiver) -> None:
        for _ in range(5):
            desk.webhook(receiver.url)
        for _ in range(40):
            desk.alert()
        workers = 4
        start = Barrier(workers)

        def work(_: int) -> int:
            try:
                start.wait()
                return desk.deliver()
            finally:
                connection.close()

        with ThreadPoolExecutor(workers) as pool:
            taken = list(pool.map(work, range(workers)))
        assert sum(taken) == 200 == len(receiver.received)
        assert len({got.id for got in receiver.received}) == 200
        assert {one.state for one in desk.deliveries()} == {"delivered"}

    def test_of_a_worker_that_died_come_due_again(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        assert len(store.claim(claim=uuid4(), batch=10, each=4, now=desk.now, lease=LEASE)) == 1
        assert desk.deliver() == 0
        desk.later(seconds=LEASE.total_seconds())
        assert desk.deliver() == 1
        died, arrived = desk.history(desk.only())
        assert (died.ended_at, died.ok) == (None, False)
        assert arrived.ok

    def test_that_were_lost_to_another_worker_do_not_undo_what_it_did(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        receiver.answers = [500, 204]
        desk.webhook(receiver.url)
        desk.alert()
        receiver.hold()
        with ThreadPoolExecutor(1) as pool:
            began = desk.now

            def slow() -> int:
                try:
                    return deliver_batch(now=began)
                finally:
                    connection.close()

            first = pool.submit(slow)
            receiver.wait_for(1)
            # Its lease ends while it still waits; another delivers, and then the first gets its 500.
            desk.later(seconds=LEASE.total_seconds())
            with ThreadPoolExecutor(1) as second_pool:

                def second() -> int:
                    try:
                        return deliver_batch(now=desk.now)
                    finally:
                        connection.close()

                second_run = second_pool.submit(second)
                receiver.wait_for(2)
                receiver.release.set()
                assert second_run.result() == first.result() == 1
        assert desk.only().state == "delivered"
        assert sorted(attempt.ok for attempt in desk.history(desk.only())) == [False, True]


class TestReplay:
    def test_makes_a_new_attempt_under_the_same_id(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        assert play_again(desk, desk.only()).state == "pending"
        desk.deliver()
        first, again = receiver.received
        assert first.id == again.id
        assert first.body == again.body
        assert [attempt.number for attempt in desk.history(desk.only())] == [1, 2]
        assert AuditEntry.objects.filter(tenant_id=desk.tenant_id, action="delivery.replay").count() == 1

    def test_gives_a_failed_one_all_its_attempts_again(self, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.status = 500
        desk.webhook(receiver.url)
        desk.alert()
        while desk.only().state == "pending":
            desk.now = desk.only().next_attempt_at
            desk.deliver()
        assert desk.only().state == "failed"
        play_again(desk, desk.only())
        desk.deliver()
        assert (desk.only().state, desk.only().tries, desk.only().attempts) == (
            "pending",
            1,
            ATTEMPTS_MAX + 1,
        )

    def test_leaves_alone_what_is_under_way(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        store.claim(claim=uuid4(), batch=10, each=4, now=desk.now, lease=LEASE)
        assert play_again(desk, desk.only()).next_attempt_at == desk.now + LEASE

    def test_is_refused_where_nothing_is_sent(self, desk: Desk, cast: Cast) -> None:
        made = desk.webhook("https://hooks.example.com/")
        desk.alert()
        desk.change(made, enabled=False)
        with pytest.raises(InvalidReplay, match="switched off"):
            play_again(desk, desk.only())
        with pytest.raises(DeliveryNotFound):
            play_again(Desk(cast.charlie.tenant.pk), desk.only())


class TestPing:
    def test_arrives(self, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        ping_destination(
            tenant_id=desk.tenant_id, destination_id=made.destination.pk, actor=ACTOR, now=desk.now
        )
        desk.deliver()
        assert receiver.received[0].verify(made.secret)["type"] == "alert.ping"


class TestOperators:
    @pytest.fixture(autouse=True)
    def _forgotten_at_the_end(self, desk: Desk, settings: Settings) -> object:
        yield
        settings.OPERATOR_EMAILS, settings.OPERATOR_WEBHOOK_URL = [], ""
        keep_destinations(now=desk.now)

    def raised(self, desk: Desk) -> str:
        key = f"drift:{uuid4()}"
        assert raise_alert(
            tenant_id=None,
            kind="drift",
            dedupe_key=key,
            subject="x",
            details={"differences": 1},
            now=desk.now,
        )
        return key

    def test_hear_of_the_installation_where_the_settings_say(
        self, desk: Desk, receiver: WebhookReceiver, mail: MailServer, settings: Settings
    ) -> None:
        secret = "whsec_" + base64.b64encode(b"o" * 32).decode()
        settings.OPERATOR_EMAILS = ["ops@example.com", "night@example.com"]
        settings.OPERATOR_WEBHOOK_URL, settings.OPERATOR_WEBHOOK_SECRET = receiver.url, secret
        desk.destination("email", "alice@example.com")
        self.raised(desk)
        desk.deliver()
        assert sorted(mail.recipients) == ["night@example.com", "ops@example.com"]
        body = receiver.received[0].verify(secret)
        assert (body["type"], body["data"]["tenant"]) == ("alert.drift", None)
        assert desk.deliveries() == []

    def test_follow_the_settings(self, desk: Desk, settings: Settings) -> None:
        settings.OPERATOR_EMAILS = ["ops@example.com"]
        self.raised(desk)
        self.raised(desk)
        assert Destination.objects.filter(tenant=None, removed_at=None).count() == 1
        settings.OPERATOR_EMAILS = []
        key = self.raised(desk)
        assert not Destination.objects.filter(tenant=None, removed_at=None).exists()
        assert not Delivery.objects.filter(alert__dedupe_key=key).exists()
        assert not Delivery.objects.filter(tenant=None, state="pending").exists()

    def test_get_a_slack_message_where_there_is_no_secret(
        self, desk: Desk, receiver: WebhookReceiver, settings: Settings
    ) -> None:
        settings.OPERATOR_WEBHOOK_URL, settings.OPERATOR_WEBHOOK_SECRET = receiver.url, ""
        self.raised(desk)
        self.raised(desk)
        desk.deliver()
        assert [list(got.json) for got in receiver.received] == [["text", "blocks"]] * 2


class TestPrune:
    def test_forgets_old_deliveries_and_later_their_alerts(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        desk.webhook(receiver.url)
        desk.alert("old")
        desk.deliver()
        prune(now=desk.now + KEEP_DELIVERIES - timedelta(minutes=1))
        assert len(desk.deliveries()) == 1
        prune(now=desk.now + KEEP_DELIVERIES + timedelta(minutes=1))
        assert desk.deliveries() == []
        assert Attempt.objects.filter(tenant_id=desk.tenant_id).count() == 0
        assert not desk.alert("old")
        prune(now=desk.now + KEEP + timedelta(minutes=1))
        assert not Alert.objects.filter(tenant_id=desk.tenant_id).exists()


class TestSlowEndpoints:
    def test_do_not_keep_others_results_from_being_written(
        self, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        with WebhookReceiver() as slow:
            slow.hold()
            desk.webhook(slow.url)
            quick = desk.webhook(receiver.url)
            desk.alert()
            with ThreadPoolExecutor(1) as pool:

                def work() -> int:
                    try:
                        return deliver_batch(now=desk.now)
                    finally:
                        connection.close()

                running = pool.submit(work)
                slow.wait_for(1)
                receiver.wait_for(1)
                done = Delivery.objects.filter(destination=quick.destination, state="delivered")
                for _ in range(100_000):
                    if done.exists():
                        break
                assert done.exists()
                assert not running.done()
                slow.release.set()
                assert running.result() == 2


class TestBody:
    def test_is_json_that_holds_no_secret(self, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        text = receiver.received[0].body.decode()
        assert made.secret not in text
        assert json.loads(text)["data"]["subject"] == "bud_x"
