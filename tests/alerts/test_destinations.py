"""Destinations are made and changed by people, name every error at once, and show a secret once."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from pytest_django.fixtures import Settings

from alerts.models import Destination
from alerts.services.destinations import (
    DESTINATIONS_MAX,
    DestinationNotFound,
    InvalidDestination,
    ping_destination,
    remove_destination,
    rotate_secret,
    wire_id,
)
from alerts.services.secrets import sealer
from tenants.models import AuditEntry
from tests.alerts.desk import ACTOR, Desk
from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db

URL = "https://hooks.example.com/noburn?token=hush"
SLACK = "https://hooks.slack.com/services/T000/B000/XXXXsecretXXXX"


def audited(desk: Desk) -> str:
    entries = AuditEntry.objects.filter(tenant_id=desk.tenant_id, action__startswith="destination")
    return "\n".join(f"{e.action} {e.object} {e.before} {e.after}" for e in entries)


class TestCreateDestination:
    def test_returns_the_secret_once_and_stores_it_sealed(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        assert made.secret.startswith("whsec_")
        stored = Destination.objects.get(pk=made.destination.pk)
        assert made.secret not in stored.secret
        assert sealer().open(stored.secret) == made.secret
        assert made.secret not in repr(made)

    def test_never_shows_a_slack_url_again(self, desk: Desk) -> None:
        made = desk.destination("slack", SLACK)
        assert made.destination.address == "https://hooks.slack.com/…XXXX"
        assert made.secret == ""
        assert sealer().open(made.destination.secret) == SLACK

    def test_keeps_secrets_out_of_the_audit_log_and_of_what_is_printed(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        webhook, slack = desk.webhook(URL), desk.destination("slack", SLACK)
        desk.change(slack, target=SLACK + "2")
        desk.change(webhook, target="https://hooks.example.com/other?token=hush2")
        rotated = rotate_secret(
            tenant_id=desk.tenant_id, destination_id=webhook.destination.pk, actor=ACTOR, now=desk.now
        )
        everything = audited(desk) + caplog.text + repr([webhook, slack, rotated]) + str(slack.destination)
        assert "destination.create" in everything
        for secret in (webhook.secret, rotated.secret, "hush", "secretXXXX"):
            assert secret not in everything

    def test_names_every_error_at_once(self, desk: Desk) -> None:
        with pytest.raises(InvalidDestination) as raised:
            desk.destination(
                "webhook", "http://10.0.0.1/", alert_kinds=["gossip", "ping"], description="a\nb"
            )
        assert {error.field for error in raised.value.errors} == {"url", "alert_kinds", "description"}

    @pytest.mark.parametrize(
        "url",
        ["http://example.com/", "https://127.0.0.1/", "https://2130706433/", "https://[::1]/", "javascript:"],
    )
    @pytest.mark.parametrize("kind", ["webhook", "slack"])
    def test_refuses_a_url_that_could_reach_us(self, desk: Desk, kind: str, url: str) -> None:
        with pytest.raises(InvalidDestination) as raised:
            desk.destination(kind, url)
        assert [error.field for error in raised.value.errors] == ["url"]

    def test_allows_an_own_network_where_the_operator_does(self, desk: Desk, settings: Settings) -> None:
        settings.NOBURN_ALLOW_PRIVATE_WEBHOOKS = True
        assert desk.webhook("http://10.0.0.1/").destination.pk

    @pytest.mark.parametrize("address", ["", "nobody", "a@b@c", "a@example.com\nBcc: x@example.com"])
    def test_refuses_what_is_no_email_address(self, desk: Desk, address: str) -> None:
        with pytest.raises(InvalidDestination):
            desk.destination("email", address)

    def test_refuses_an_address_that_hears_of_alerts_already(self, desk: Desk) -> None:
        desk.destination("email", "a@example.com")
        other = desk.destination("email", "b@example.com")
        with pytest.raises(InvalidDestination, match="already"):
            desk.destination("email", "a@example.com")
        with pytest.raises(InvalidDestination, match="already"):
            desk.change(other, target="a@example.com")

    def test_refuses_more_than_there_is_room_for(self, desk: Desk) -> None:
        for number in range(DESTINATIONS_MAX):
            desk.destination("email", f"a{number}@example.com")
        with pytest.raises(InvalidDestination, match=f"at most {DESTINATIONS_MAX}"):
            desk.destination("email", "more@example.com")


class TestChangeDestination:
    def test_changes_what_is_named_and_writes_it_down(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        changed = desk.change(made, alert_kinds=["drift", "threshold"], description="ours", enabled=False)
        assert (changed.alert_kinds, changed.description, changed.enabled) == (
            ["threshold", "drift"],
            "ours",
            False,
        )
        assert changed.version == 2
        assert "'description': 'ours'" in audited(desk)

    def test_changes_nothing_when_nothing_is_new(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        assert desk.change(made, description="", target=URL).version == 1
        assert "destination.change" not in audited(desk)

    def test_cancels_what_waits_when_switched_off(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        desk.alert()
        desk.change(made, enabled=False)
        assert desk.only().state == "cancelled"

    def test_knows_no_other_tenant_s(self, desk: Desk, cast: Cast) -> None:
        made = Desk(cast.charlie.tenant.pk).webhook(URL)
        with pytest.raises(DestinationNotFound):
            desk.change(made, enabled=False)


class TestRemoveDestination:
    def test_forgets_the_secret_and_cancels_what_waits(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        desk.alert()
        remove_destination(
            tenant_id=desk.tenant_id, destination_id=made.destination.pk, actor=ACTOR, now=desk.now
        )
        stored = Destination.objects.get(pk=made.destination.pk)
        assert (stored.secret, stored.enabled) == ("", False)
        assert desk.only().state == "cancelled"
        with pytest.raises(DestinationNotFound):
            desk.change(made, enabled=True)


class TestRotateSecret:
    def test_keeps_the_previous_one_for_the_overlap(self, desk: Desk) -> None:
        made = desk.webhook(URL)
        overlap = timedelta(hours=2)
        again = rotate_secret(
            tenant_id=desk.tenant_id,
            destination_id=made.destination.pk,
            overlap=overlap,
            actor=ACTOR,
            now=desk.now,
        )
        assert again.secret != made.secret
        stored = Destination.objects.get(pk=made.destination.pk)
        assert sealer().open(stored.secret) == again.secret
        assert sealer().open(stored.previous_secret) == made.secret
        assert stored.previous_secret_until == desk.now + overlap

    @pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=8)])
    def test_refuses_an_overlap_out_of_range(self, desk: Desk, overlap: timedelta) -> None:
        made = desk.webhook(URL)
        with pytest.raises(InvalidDestination, match="overlap_seconds"):
            rotate_secret(
                tenant_id=desk.tenant_id,
                destination_id=made.destination.pk,
                overlap=overlap,
                actor=ACTOR,
                now=desk.now,
            )

    def test_is_for_generic_webhooks_alone(self, desk: Desk) -> None:
        made = desk.destination("slack", SLACK)
        with pytest.raises(InvalidDestination, match="kind"):
            rotate_secret(
                tenant_id=desk.tenant_id, destination_id=made.destination.pk, actor=ACTOR, now=desk.now
            )


class TestPing:
    def test_goes_to_this_destination_alone(self, desk: Desk) -> None:
        made = desk.webhook(URL, alert_kinds=["drift"])
        desk.webhook("https://other.example.com/")
        delivery = ping_destination(
            tenant_id=desk.tenant_id, destination_id=made.destination.pk, actor=ACTOR, now=desk.now
        )
        assert desk.only() == delivery
        assert wire_id(made.destination) in audited(desk)

    def test_is_refused_while_switched_off_and_after_too_many(self, desk: Desk) -> None:
        made = desk.webhook(URL)

        def ping() -> None:
            ping_destination(
                tenant_id=desk.tenant_id, destination_id=made.destination.pk, actor=ACTOR, now=desk.now
            )

        for _ in range(5):
            ping()
        with pytest.raises(InvalidDestination, match="under way"):
            ping()
        desk.change(made, enabled=False)
        with pytest.raises(InvalidDestination, match="switch"):
            ping()
