"""The operators' pages of alerts: what became of each, and no secret."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from alerts.models import Destination
from tenants.models import AuditEntry
from tests.alerts.desk import Desk
from tests.doubles.webhook import WebhookReceiver
from tests.support.operators import queries_by_page, staff, superuser

pytestmark = pytest.mark.real_db


@pytest.fixture
def operator() -> Client:
    return superuser()


def act(client: Client, pk: object, **fields: str) -> str:
    answer = client.post(
        reverse("admin:alerts_delivery_changelist"),
        {"action": "send_again", "_selected_action": [str(pk)], **fields},
        follow=True,
    )
    assert answer.status_code == 200
    return answer.content.decode()


class TestDestinations:
    def test_never_show_a_secret(self, operator: Client, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        sealed = Destination.objects.get(pk=made.destination.pk).secret
        assert sealed
        for url in (
            reverse("admin:alerts_destination_changelist"),
            reverse("admin:alerts_destination_change", args=[made.destination.pk]),
        ):
            page = operator.get(url).content.decode()
            assert receiver.url in page
            assert made.secret not in page
            assert sealed not in page


class TestDeliveries:
    def test_show_each_attempt(self, operator: Client, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        page = operator.get(reverse("admin:alerts_delivery_change", args=[desk.only().pk]))
        assert page.status_code == 200
        assert "delivered" in page.content.decode()
        assert "200" in page.content.decode()

    def test_are_sent_again_through_the_service(
        self, operator: Client, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        assert "Send these again?" in act(operator, desk.only().pk)
        assert desk.only().state == "delivered"
        act(operator, desk.only().pk, confirmed="yes")
        assert desk.only().state == "pending"
        logged = LogEntry.objects.get(object_id=str(desk.only().pk))
        entry = AuditEntry.objects.filter(tenant=desk.tenant_id).order_by("-pk")[0]
        assert entry.actor == f"operator:{logged.user_id}"

    def test_are_sent_again_by_who_may(self, desk: Desk, receiver: WebhookReceiver) -> None:
        desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        act(staff("alerts.view_delivery"), desk.only().pk, confirmed="yes")
        assert desk.only().state == "delivered"

    def test_say_why_one_is_not_sent_again(
        self, operator: Client, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        made = desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        desk.change(made, enabled=False)
        page = act(operator, desk.only().pk, confirmed="yes")
        assert desk.only().state == "delivered"
        assert not LogEntry.objects.filter(object_id=str(desk.only().pk)).exists()
        assert "Done for" not in page

    def test_are_listed_in_as_many_queries_however_many_there_are(
        self, operator: Client, desk: Desk, receiver: WebhookReceiver
    ) -> None:
        for _ in range(30):
            desk.webhook(receiver.url)
        for _ in range(30):
            desk.alert()
        compared = queries_by_page(operator, "alerts")
        assert set(compared) == {f"admin:alerts_{name}" for name in ("alert", "delivery", "destination")}
        assert {name: found for name, found in compared.items() if len(set(found)) > 1} == {}
