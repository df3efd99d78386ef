"""Alice, Bob and Charlie, a receiver of webhooks, a mail server, and settings that let webhooks reach this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pytest_django.fixtures import Settings

from tests.doubles.smtp import MailServer
from tests.doubles.webhook import WebhookReceiver

if TYPE_CHECKING:
    from tests.alerts.desk import Desk
    from tests.tenants.cast import Cast


@pytest.fixture
def cast(real_database: None) -> Cast:
    # Django's applications are loaded after this file.
    from tests.tenants.cast import make_cast

    return make_cast()


@pytest.fixture
def receiver(settings: Settings) -> Iterator[WebhookReceiver]:
    settings.NOBURN_ALLOW_PRIVATE_WEBHOOKS = True
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def mail(settings: Settings) -> Iterator[MailServer]:
    with MailServer() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server


@pytest.fixture
def desk(cast: Cast) -> Iterator[Desk]:
    """Alice's alerts, and the clock they go by."""
    from tests.alerts.desk import Desk, forget_pending

    forget_pending()
    yield Desk(cast.tenant.pk)
    forget_pending()
