"""A stand-in for Stripe that keeps to its rules, holds every message to its own OpenAPI document, and fails on command.

Stripe's own client talks to it, and nothing of the client is replaced. In a test:

    with StripeDouble() as double:
        client = double.client("rk_test_alice")         # each key opens an account of its own
        double.set_clock(datetime(2026, 1, 1, tzinfo=UTC))   # the clock stands until it is moved
        ...
        double.fault("error_after", path="meter_events")     # 500, though it was done
        double.advance(days=31)                              # renewals, drafts, retries, reports happen
        double.deliver(order="shuffled", duplicates=2)       # signed webhooks
        assert double.objects("invoice", key="rk_test_alice")[0]["total"] == 1234
        assert double.broken() == []

As a process: `python -m tests.doubles.stripe --port 9400`, or `StripeDouble(process=True)`. README.md lists
what it does and what it does not do.
"""

from tests.doubles.stripe.double import KEY, ControlError, StripeDouble

__all__ = ["KEY", "ControlError", "StripeDouble"]
