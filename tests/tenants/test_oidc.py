"""Signing in by OpenID Connect: settings alone turn it on, so a program with those settings is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from noburn.runtime.embedded import ROOT
from tests.tenants.cast import unique
from tests.tenants.oidc_double import provider

pytestmark = pytest.mark.real_db

PROGRAM = """
import json, os
import django
django.setup()
from urllib.parse import parse_qs, urlsplit
from django.core.management import call_command
from django.test import Client
from noburn.kit.tenancy import span_in_this_process
from tenants.models import User
span_in_this_process()
call_command("migrate", verbosity=0, interactive=False)
email, known = os.environ["WHO"], os.environ["KNOWN"] == "1"
if known:
    User.objects.create_user(email, "correct horse battery")
client = Client(REMOTE_ADDR="10.2.0.1")
shown = client.get("/account/login/").content.decode()
began = client.post("/account/oidc/sso/login/")
asked = parse_qs(urlsplit(began["Location"]).query)
came = client.get("/account/oidc/sso/login/callback/", {"code": "c", "state": asked["state"][0]})
print(json.dumps({
    "button": "Continue with Acme SSO" in shown,
    "authorize": began["Location"].partition("?")[0],
    "challenge": asked.get("code_challenge_method"),
    "landed": came.headers.get("Location"),
    "inside": client.get("/tenants").status_code,
    "people": User.objects.filter(email=email).count(),
}))
"""


def comes(email: str, *, known: bool = False, verified: bool = True, **environment: str) -> tuple[Any, Any]:
    """What became of somebody who came by their provider, and what that was asked."""
    with provider(email, verified=verified) as double:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "noburn.settings",
                "ALLOWED_HOSTS": "testserver",
                "OIDC_ISSUER": double.url,
                "OIDC_CLIENT_ID": "noburn",
                "OIDC_CLIENT_SECRET": "s3cret",
                "OIDC_NAME": "Acme SSO",
                "NOBURN_SIGNUP": "open",
                "WHO": email,
                "KNOWN": "1" if known else "0",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), (double.url, double.asked)


class TestOidc:
    def test_signs_somebody_in_whom_the_provider_knows(self) -> None:
        told, (url, asked) = comes(f"{unique('carol')}@example.com")
        assert told["button"]
        assert told["authorize"] == f"{url}/authorize"
        assert told["challenge"] == ["S256"]
        assert (told["landed"], told["inside"], told["people"]) == ("/enter", 200, 1)
        assert asked[0]["client_secret"] == ["s3cret"]
        assert "code_verifier" in asked[0]

    def test_ties_a_confirmed_address_to_the_account_that_has_it(self) -> None:
        told, _ = comes(f"{unique('dave')}@example.com", known=True)
        assert (told["landed"], told["inside"], told["people"]) == ("/enter", 200, 1)

    def test_gives_nobodys_account_to_an_address_that_is_not_confirmed(self) -> None:
        told, _ = comes(f"{unique('erin')}@example.com", known=True, verified=False)
        assert told["inside"] == 302
        assert told["people"] == 1

    def test_lets_no_stranger_in_where_the_installation_is_closed(self) -> None:
        told, _ = comes(f"{unique('frank')}@example.com", NOBURN_SIGNUP="closed")
        assert (told["inside"], told["people"]) == (302, 0)
