"""What Django's page of an error hides: with DEBUG on it shows the settings."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class HideSecrets(SafeExceptionReporterFilter):
    """Hides what Django hides, peppers, and addresses that hold passwords."""

    hidden_settings = re.compile(
        "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|PEPPER|DATABASE|_URL$|EMAIL_HOST_USER",
        flags=re.IGNORECASE,
    )
