"""Pages of policies: put together of fields or as JSON, tried on past calls, saved as versions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from tests.dashboard.test_rule_pages import BIG, call, csv_rows
from tests.dashboard.test_spending_pages import Desk, words

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

MINI = "gpt-4o-mini"
RULE = {
    "r0-name": "short",
    "r0-task": 'extract, "a, b"',
    "r0-output": ["schema"],
    "r0-input_tokens_max": "4000",
    "r0-tags": "team = blue, green",
    "r0-action": "use_model",
    "r0-use_model": MINI,
}
FORM = {"name": "by task", "enabled": "on", "position": "0", "rules": "1", **RULE}
READ = {
    "name": "short",
    "when": {
        "task": ["extract", "a, b"],
        "output": ["schema"],
        "tags": {"team": ["blue", "green"]},
        "input_tokens": {"max": 4000},
    },
    "then": {"action": "use_model", "model": MINI},
}


@pytest.fixture
def desk(alice: Account) -> Desk:
    return Desk(alice)


class TestPolicies:
    def only(self, desk: Desk) -> Any:
        from budgets.models import RoutingPolicy

        return RoutingPolicy.objects.get(tenant_id=desk.tenant.pk)

    def made(self, desk: Desk, **form: Any) -> str:
        desk.post("policies/new", {**FORM, **form})
        return f"policies/{ids.encode(ids.POLICY, self.only(desk).pk)}"

    def test_are_made_of_fields_and_decide(self, desk: Desk) -> None:
        self.made(desk)
        assert self.only(desk).rules == [READ]
        page = words(desk.get("policies"))
        assert "task is extract or a, b; output is schema; tag team is blue or green" in page
        assert "input tokens: at most 4,000 the call uses gpt-4o-mini" in page
        (row,) = csv_rows(desk.get("policies?format=csv"))
        assert (row["rule"], row["then"]) == ("short", "uses gpt-4o-mini")
        asked: dict[str, Any] = {"task": "extract", "output": "schema", "tags": {"team": "blue"}}
        assert call(desk, **asked)["model"] == MINI
        desk.settled()
        log = desk.get("usage/decisions")
        decision = re.findall(r'href="/t/[^/]+/(usage/decisions/dec_\w+)"', log)[0]
        assert "Chosen by by task : short gpt-4o was asked for" in words(desk.get(decision))

    def test_name_what_is_wrong_at_its_field(self, desk: Desk) -> None:
        wrong = {**FORM, "r0-task": "a*b", "r0-time_from": "9", "r0-utilization_min": "much", "name": ""}
        page = desk.post("policies/new", wrong, status=400)
        for field in ("id_name", "id_r0-utilization_min"):
            assert f'id="{field}-errors"' in page, field
        wrong |= {"r0-utilization_min": "120", "name": "x", "time_zone": "Mars"}
        page = desk.post("policies/new", wrong, status=400)
        for field in ("id_r0-time_from", "id_r0-utilization_min"):
            assert f'id="{field}-errors"' in page, field
        wrong |= {"r0-utilization_min": "80", "r0-time_from": "09:00", "r0-tier": "small"}
        page = desk.post("policies/new", wrong, status=400)
        for field in ("id_time_zone", "id_r0-task", "id_r0-time_from", "id_r0-tier"):
            assert f'id="{field}-errors"' in page, field
        for tags in ("team", "team = ", "a = b\na = c"):
            page = desk.post("policies/new", {**FORM, "r0-tags": tags}, status=400)
            assert 'id="id_r0-tags-errors"' in page, tags
        page = desk.post("policies/new", {**FORM, "rules": "0"}, status=400)
        assert "must be 1 to 50" in page
        page = desk.post("policies/new", {**FORM, "tiers": "openai"}, status=400)
        assert 'id="id_tiers-errors"' in page

    def test_are_edited_as_they_were_read(self, desk: Desk) -> None:
        """What a form shows of a policy of every condition, and sends back, is the same policy."""
        every = {
            "when": {
                **{
                    name: ["a", "b*"] for name in ("provider", "model", "task", "plan", "customer", "project")
                },
                "output": ["text", "json"],
                "tags": {"team": ['"x", y', "z"]},
                **{name: {"min": 1, "max": 2} for name in ("input_tokens", "max_output_tokens", "steps")},
                "time": {"days": ["sat", "sun"], "from": "22:00", "to": "06:00"},
                "utilization": {"min": "0.8", "max": "0.955"},
            },
            "name": "all",
            "then": {"action": "use_tier", "tier": "big"},
        }
        from budgets.dashboard.policy_forms import Editor
        from budgets.services.routing import fields_of

        path = self.made(desk)
        document = json.dumps({"rules": [every], "tiers": {"openai": {"big": "gpt-4.1"}}})
        own = {"name": "x", "position": "0", "version": "1"}
        desk.post(f"{path}/edit", {**own, "as": "json", "document": document})
        editor = Editor.of(fields_of(self.only(desk)))
        assert not editor.as_json
        sent: dict[str, Any] = {**own, "version": "2", "tiers": editor.form["tiers"].value(), "rules": "1"}
        (rule,) = editor.rules
        sent |= {f"r0-{name}": value for name in rule.fields if (value := rule[name].value()) is not None}
        desk.post(f"{path}/edit", {**sent, "name": "y"})
        saved = self.only(desk)
        assert (saved.version, saved.rules[0]) == (3, every)
        assert saved.tiers == {"openai": {"big": "gpt-4.1"}}

    def test_that_fields_cannot_say_are_edited_as_json(self, desk: Desk) -> None:
        path = self.made(desk)
        rule = {"name": "odd", "when": {"tags": {"a=b": ["c"]}}, "then": {"action": "block"}}
        form = {"name": "x", "position": "0", "version": "1", "as": "json"}
        for document, said in (
            ("{", "This is no JSON"),
            ("[]", "It must be an object"),
            ('{"rules": [{"name": 3}]}', "Rules[0].name must be text"),
            ('{"rules": [{"name": "x", "then": {"action": "use_model"}}]}', "belongs to use_model"),
        ):
            assert said in desk.post(f"{path}/edit", {**form, "document": document}, status=400), document
        desk.post(f"{path}/edit", {**form, "document": json.dumps({"rules": [rule], "tiers": {}})})
        page = desk.get(f"{path}/edit")
        assert 'name="document"' in page
        assert "a=b" in page

    def test_have_rules_added_moved_and_taken_away_before_they_are_saved(self, desk: Desk) -> None:
        two = {**FORM, "rules": "2", "r1-name": "second", "r1-action": "block", "r1-days": ["sat"]}

        def names(page: str) -> list[str]:
            return re.findall(r'name="r\d+-name" value="([^"]*)"', page)

        def sent(do: str) -> str:
            return desk.post("policies/draft", {**two, "do": do}, status=200)

        assert names(sent("up:1")) == ["second", "short"]
        assert names(sent("down:0")) == ["second", "short"]
        assert names(sent("up:0")) == ["short", "second"]
        assert names(sent("remove:0")) == ["second"]
        assert names(sent("remove:9")) == ["short", "second"]
        page = sent("add")
        assert page.count("r2-action") >= 1
        assert '"sat" id="id_r1-days_5" checked' in re.sub(r"\s+", " ", page)
        assert "extract, &quot;a, b&quot;" in page
        from budgets.models import RoutingPolicy

        assert not RoutingPolicy.objects.filter(tenant_id=desk.tenant.pk).exists()

    def test_are_tried_on_past_calls_before_they_are_saved(self, desk: Desk) -> None:
        for task in ("extract", "extract", "chat"):
            assert call(desk, task=task, output="schema", tags={"team": "blue"}).decision == "allow"
        desk.settled()
        page = words(desk.post("policies/draft", {**FORM, "do": "simulate", "days": "1"}, status=200))
        assert "Calls looked at 3" in page
        assert "Would change 2" in page
        assert "No rule matches 1" in page
        assert re.search(r"short this one 2 2 \$[0-9.]+ \$[0-9.]+ -\$", page)
        assert "no decision" not in page
        wrong = desk.post("policies/draft", {**FORM, "r0-name": "", "do": "simulate"}, status=400)
        assert 'id="id_r0-name-errors"' in wrong
        charlie = Desk(desk.account.world.account("charlie"))
        assert "There is no decision of that time" in charlie.post(
            "policies/draft", {**FORM, "do": "simulate"}, status=200
        )

    def test_have_versions_of_which_one_is_taken_up_again(self, desk: Desk) -> None:
        path = self.made(desk)
        changed = {**FORM, "version": "1", "r0-use_model": "gpt-4.1-nano", "name": "renamed"}
        desk.post(f"{path}/edit", changed)
        page = words(desk.get(path))
        assert "policy.edit" in page
        assert "uses gpt-4o-mini" in page
        assert "uses gpt-4.1-nano" in page
        stale = desk.post(f"{path}/edit", {**changed, "name": "mine"}, status=400)
        assert "Somebody saved version 2 since" in stale
        form = desk.get(f"{path}/edit?version=1")
        assert "the rules of version 1" in form
        assert f'value="{MINI}"' in form
        desk.get(f"{path}/edit?version=7", status=404)
        assert "Versions" not in words(desk.get(path, client=desk.as_role("viewer")))

    def test_are_archived_after_a_question(self, desk: Desk) -> None:
        path = self.made(desk)
        assert "its 1 rule decides nothing" in desk.get(f"{path}/archive")
        desk.post(f"{path}/archive", {})
        assert "Every call uses the model that it asks for" in desk.get("policies")
        assert "by task" in words(desk.get("policies?archived=1"))
        desk.get(f"{path}/edit", status=404)
        assert call(desk, task="extract", output="schema", tags={"team": "blue"})["model"] == BIG

    def test_begin_with_the_worked_example_of_the_documents(self, desk: Desk) -> None:
        from budgets.dashboard.policies import EXAMPLE
        from tests.browser.browsing import ROOT

        text = (ROOT / "docs" / "policies.md").read_text()
        shown = json.loads(text.split("```json\n")[1].split("```")[0])
        assert {name: EXAMPLE[name] for name in shown} == shown
        assert desk.get("policies/new?from=example").count('class="card rule"') == 3
