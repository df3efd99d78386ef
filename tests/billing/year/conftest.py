from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from pytest_django.fixtures import Settings

from tests.doubles.stripe import StripeDouble

if TYPE_CHECKING:
    from tests.billing.year.life import Life

Begin = "Callable[..., Life]"


@pytest.fixture
def begin(
    tenant: Callable[[str], UUID], owner: psycopg.Connection[Any], settings: Settings
) -> Iterator[Callable[..., Life]]:
    """Begins a life of some tenants and customers, from a first of a month on. At its end all is put back."""
    # Django's applications are loaded after this file.
    from billing.stripe.client import close_connections
    from tests.billing.plans.seller import PLATFORM_KEY
    from tests.billing.push.till import forget_others
    from tests.billing.year.life import Life

    forget_others()
    with StripeDouble() as double:
        settings.STRIPE_API_BASE = double.url
        # Other tests may have pruned hours, of which there were none this long ago.
        (kept,) = owner.execute("SELECT hours_from FROM usage_cursor").fetchall()
        owner.execute("UPDATE usage_cursor SET hours_from = '1970-01-01 00:00:00+00'")

        def make(*, tenants: int = 0, buyers: int = 0, **how: Any) -> Life:
            if buyers:
                settings.NOBURN_PLANS, settings.STRIPE_PLATFORM_KEY = "hosted", PLATFORM_KEY
            buying = [tenant(f"bob-{at}") for at in range(buyers)]
            life = Life(owner, [tenant(f"alice-{at}") for at in range(tenants)], double, buying=buying, **how)
            if life.platform is not None:
                settings.STRIPE_PLATFORM_WEBHOOK_SECRET = life.platform.secret
            lives.append(life)
            return life

        lives: list[Life] = []
        yield make
        for life in lives:
            if life.platform is not None:
                life.platform.forget()
        owner.execute("UPDATE usage_cursor SET hours_from = greatest(hours_from, %s)", kept)
        forget_others()
        close_connections()
        assert double.broken() == []
