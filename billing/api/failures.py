"""What the API answers when Stripe, asked within a request, does not do what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from billing.domain.sink import SinkBusy, SinkError, SinkUnavailable
from billing.services.stripe_access import NoPlatformKey
from noburn.kit.problems import ProblemError, problem


@contextmanager
def stripe_may_fail() -> Iterator[None]:
    """Within it, a failure of Stripe's is a problem: one to try again, or one with Stripe's reason."""
    try:
        yield
    except (SinkUnavailable, SinkBusy) as error:
        raise ProblemError(problem("stripe-unavailable", f"Try again soon: {error}.")) from error
    except NoPlatformKey as error:
        raise ProblemError(
            problem("stripe-refused", "This installation has no Stripe of its own.")
        ) from error
    except SinkError as error:
        raise ProblemError(problem("stripe-refused", str(error))) from error
