"""Invoices, who does not pay, credit notes and the portal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from alerts.models import Alert
from billing.models import CreditNote, StripeInvoice
from billing.services import credit_notes
from billing.services.credit_notes import InvalidCreditNote, NewCreditNote
from tests.billing.push.till import ACTOR, DAY, HOUR, NEXT, START, half

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


@pytest.fixture
def month(till: Till) -> Till:
    """A month that was invoiced to a customer with a card that never pays, or pays, as the test attaches."""
    till.link()
    till.use(5_000_000, NOON)
    return till


def card(till: Till, name: str) -> None:
    client, customer = till.double.client(till.key), till.link_of().stripe_customer
    attached = client.v1.payment_methods.attach(name, {"customer": customer})
    client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": attached.id}})


def invoiced(till: Till) -> StripeInvoice:
    till.to(NEXT)
    till.live(NEXT + 3 * HOUR)
    return StripeInvoice.objects.get(tenant_id=till.tenant_id, billing_reason="subscription_cycle")


class TestInvoices:
    def test_are_shown_as_stripe_has_them(self, month: Till) -> None:
        card(month, "pm_card_visa")
        invoice = invoiced(month)
        assert (invoice.status, invoice.total, invoice.amount_paid) == ("paid", 500, 500)
        assert invoice.usage_micro == 5_000_000
        assert invoice.hosted_url.startswith("https://")


class TestWhoDoesNotPay:
    def test_is_told_of_and_calls_on_by_default(self, month: Till) -> None:
        card(month, "pm_card_chargeCustomerFail")
        assert invoiced(month).status == "open"
        assert month.link_of().delinquent_at is not None
        assert month.customer().suspended_at is None
        alerts = Alert.objects.filter(tenant_id=month.tenant_id, kind="customer_delinquent")
        assert [alert.subject for alert in alerts] == ["acme"]

    def test_is_suspended_by_policy_until_it_pays(self, month: Till) -> None:
        month.change(suspend_delinquent=True)
        card(month, "pm_card_chargeCustomerFail")
        invoice = invoiced(month)
        assert month.customer().suspended_at is not None
        assert month.link_of().suspended
        month.double.pay_invoice(invoice.stripe_id, key=month.key)
        month.events()
        assert month.customer().suspended_at is None
        assert (month.link_of().delinquent_at, month.link_of().suspended) == (None, False)

    def test_stays_suspended_where_somebody_else_did_it(self, month: Till) -> None:
        from tenants.services.customers import suspend_customer

        month.change(suspend_delinquent=True)
        suspend_customer(tenant_id=month.tenant_id, external_id="acme", actor=ACTOR, now=month.now)
        card(month, "pm_card_chargeCustomerFail")
        invoice = invoiced(month)
        month.double.pay_invoice(invoice.stripe_id, key=month.key)
        month.events()
        assert month.customer().suspended_at is not None


class TestCreditNotes:
    def test_are_issued_once_whatever_stripe_answers(self, month: Till) -> None:
        card(month, "pm_card_visa")
        invoice = invoiced(month)
        month.double.fault("error_after", path="credit_notes", method="POST")
        note = self.credit(month, invoice, amount=200)
        credit_notes.issue_due(now=month.now, chance=half)
        month.later(minutes=1)
        credit_notes.issue_due(now=month.now, chance=half)
        note.refresh_from_db()
        assert note.state == "issued"
        (made,) = month.double.objects("credit_note", key=month.key)
        assert (made["amount"], note.stripe_id) == (200, made["id"])

    def test_are_bounded_by_what_is_left(self, month: Till) -> None:
        card(month, "pm_card_visa")
        invoice = invoiced(month)
        self.credit(month, invoice, amount=300)
        with pytest.raises(InvalidCreditNote, match="must be 1 to 200"):
            self.credit(month, invoice, amount=201)
        with pytest.raises(InvalidCreditNote) as refused:
            self.credit(month, invoice, amount=0, reason="because", memo="\x00")
        assert [error.field for error in refused.value.errors] == ["reason", "memo", "amount"]

    @staticmethod
    def credit(till: Till, invoice: StripeInvoice, **fields: Any) -> CreditNote:
        wanted = NewCreditNote(**{"amount": 1, "reason": "product_unsatisfactory", **fields})
        return credit_notes.credit(
            tenant_id=till.tenant_id, invoice_id=invoice.pk, wanted=wanted, actor=ACTOR, now=till.now
        )


class TestPeriodsWithoutAnInvoice:
    def test_are_carried_once_it_is_sure(self, till: Till) -> None:
        till.link()
        till.use(70_000, NOON)
        till.live(NOON + 2 * HOUR)
        client = till.double.client(till.key)
        client.v1.subscriptions.cancel(till.link_of().subscription)
        till.events()
        assert till.link_of().subscription_status == "canceled"
        till.to(START + 3 * DAY)
        till.link()
        assert till.link_of().subscription_status == "active"
        till.to(START + 9 * DAY)
        till.work()
        till.events()
        till.reconcile()
        till.live(START + 9 * DAY + 3 * HOUR)
        assert all(row.agrees for row in till.reconcile())
        carried = [row.value_micro for row in till.rows() if row.kind == "carry"]
        assert sum(carried) == 70_000
