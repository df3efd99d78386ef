"""From signing up to what a customer will be invoiced, as docs/quickstart.md has it, and in the four looks."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx

from tests.browser.browsing import ROOT, Browsing, pictures, unsound

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PASSWORD = "correct horse battery"
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
LOOKS_MAX = 300
_EARLIER = """
import json
from datetime import timedelta
from billing.models import RateCardAssignment, RateCardVersion
from noburn.kit import ids
from noburn.kit.clock import utc_now
for rows in (RateCardVersion.objects, RateCardAssignment.objects):
    row = rows.get(tenant__slug={slug!r})
    row.pk, row.effective_from = ids.new_uuid(utc_now()), row.effective_from - timedelta(days=40)
    if rows.model is RateCardVersion:
        row.number = 2
    row.save(force_insert=True)
print(json.dumps(None))
"""
# Such rows cannot be changed: a copy holds from 40 days earlier on, as if the page had been filled in then.


def press(page: Page, name: str) -> None:
    """Presses what the quickstart says to press, which it must say in these words."""
    assert re.search(rf"\*\*{re.escape(name)}\.?\*\*", QUICKSTART), f"the quickstart does not say **{name}**"
    page.get_by_role("button", name=name).or_(page.get_by_role("link", name=name)).first.click()


def command() -> str:
    """The command of the quickstart, as it stands there."""
    (found,) = [
        each for each in re.findall(r"```\n(.*?)```", QUICKSTART, re.DOTALL) if "/v1/preflight" in each
    ]
    return str(found)


def shown(page: Page, station: str, *, of: Locator | None = None) -> None:
    """The page of a station is sound, and pictured where pictures are wanted."""
    assert unsound(page) == [], station
    pictures(page, station, of=of)


def until_it_says(page: Page, text: str) -> None:
    """Loads the page again and again until rollups brought what it is to say."""
    for _ in range(LOOKS_MAX):
        if page.get_by_text(text, exact=True).count():
            return
        page.reload()
    raise AssertionError(f"{page.url} never said {text!r}")


class TestStory:
    def test_leads_from_signing_up_to_an_invoice(self, browsing: Browsing) -> None:
        with browsing.page() as page:
            self.signs_up(page)
            key = self.makes_a_key_and_a_call(page, browsing.running.url)
            self.makes_a_budget_and_sees_a_loop_refused(page)
            self.uses(browsing.running.url, key)
            slug = page.url.split("/t/")[1].split("/")[0]
            self.says_what_customers_pay(page, slug)
            # A card holds from the next hour on; the story goes on as if it had held for a while.
            browsing.running.manage("shell", "--verbosity", "0", "-c", _EARLIER.format(slug=slug))
            self.sees_what_will_be_invoiced(page, slug)

    def signs_up(self, page: Page) -> None:
        page.goto("/")
        press(page, "Sign up")
        shown(page, "sign-up")
        page.get_by_label("Email").fill(f"alice-{uuid4().hex}@acme.example")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign up").click()
        page.get_by_label("Name", exact=False).first.fill("Acme Robotics")
        page.get_by_label("Time zone").select_option("Europe/Berlin")
        page.get_by_role("button", name="Make the tenant").click()
        page.wait_for_url("**/t/acme-robotics*/start")
        pictures(page, "start")

    def makes_a_key_and_a_call(self, page: Page, url: str) -> str:
        press(page, "Make a key")
        key = page.locator("#code-api-key").inner_text()
        assert key.startswith("nb_live_")
        assert page.get_by_text("Waiting for the first call").is_visible()
        # No picture: the key is on it.
        assert unsound(page) == []
        # The page's own snippet has the key filled in, and is that of the quickstart but for the address.
        snippet = page.locator("#code-curl").text_content() or ""
        assert key in snippet
        assert "**curl, and no provider**" in QUICKSTART
        typed = command().replace("http://127.0.0.1:8420", url)
        called = subprocess.run(
            ["bash", "-c", typed],
            env={**os.environ, "NOBURN_API_KEY": key},
            capture_output=True,
            text=True,
            check=True,
        )
        assert '"decision":"allow"' in called.stdout.replace(": ", ":")
        page.get_by_text("A call has come.").wait_for()
        page.reload()
        assert page.get_by_text("A call has come.").is_visible()
        assert page.get_by_text(key).count() == 0
        return key

    def makes_a_budget_and_sees_a_loop_refused(self, page: Page) -> None:
        page.get_by_label("Limit in USD").fill("ten")
        page.get_by_role("button", name="Make the budget").click()
        assert page.locator("[aria-invalid=true]").count() == 1
        page.get_by_label("Limit in USD").fill("10")
        page.get_by_role("button", name="Make the budget").click()
        assert page.get_by_text("The budget is in force").is_visible()
        press(page, "Run the loop")
        assert page.get_by_text("allowed", exact=True).count() == 4
        assert page.get_by_text("budget_exceeded").count() == 6
        shown(page, "refused", of=page.get_by_role("status").filter(has_text="were refused"))

    def uses(self, url: str, key: str) -> None:
        """A call of acme's that is settled: $1.00, of 200,000 tokens in and 50,000 out at gpt-4o's list price."""
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as caller:
            body = {
                "model": "gpt-4o",
                "input_tokens": 200_000,
                "max_output_tokens": 60_000,
                "subject": {"customer": "acme"},
            }
            headers = {"Idempotency-Key": uuid4().hex}
            placed = caller.post("/v1/preflight", json=body, headers=headers).json()
            assert placed["decision"] == "allow", placed
            usage = {"input_tokens": 200_000, "output_tokens": 50_000}
            body = {"authorization": placed["authorization"], "usage": usage}
            settled = caller.post("/v1/settle", json=body, headers={"Idempotency-Key": uuid4().hex}).json()
            assert settled["cost_usd"] == "1"

    def says_what_customers_pay(self, page: Page, slug: str) -> None:
        page.goto(f"/t/{slug}/billing")
        page.get_by_role("link", name="Make a rate card").click()
        page.get_by_label("Name", exact=True).fill("standard")
        page.get_by_label("Markup", exact=False).first.fill("25")
        shown(page, "card")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("link", name="Assign").first.click()
        page.get_by_label("Rate card").select_option(label="standard")
        page.get_by_role("button", name="Assign").click()
        assert page.get_by_text("everybody").first.is_visible()

    def sees_what_will_be_invoiced(self, page: Page, slug: str) -> None:
        page.goto(f"/t/{slug}/customers")
        page.get_by_role("link", name="acme").first.click()
        page.get_by_role("heading", name="This month's invoice so far").wait_for()
        until_it_says(page, "$1.25")
        shown(page, "customer")
        pictures(page, "invoice-preview", of=page.locator("section[aria-labelledby=invoice]"))
        page.goto(f"/t/{slug}/overview")
        shown(page, "overview")
