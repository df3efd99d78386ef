from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from budgets.domain import policy as policies
from budgets.management.commands.provision import budget_spec
from budgets.models import Budget, PolicySnapshot
from noburn.kit import ids
from tenants.domain import api_keys
from tenants.models import ApiKey, AuditEntry, Member, Tenant
from tests.support.api import Api
from tests.tenants.cast import unique

ROOT = Path(__file__).parents[2]


def provision(slug: str, *arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("provision", "--tenant", slug, "--json", *arguments, stdout=out)
    (line,) = out.getvalue().splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


def budgets_of(slug: str) -> list[Budget]:
    return list(
        Budget.objects.filter(tenant__slug=slug, archived_at__isnull=True).order_by("created_at", "pk")
    )


@pytest.mark.real_db
class TestProvision:
    def test_makes_all_that_a_first_call_needs(self) -> None:
        slug = unique("acme")
        answer = provision(slug, "--budget", "customer:*:10:month", "--email", "Alice@Example.com")
        tenant = Tenant.objects.get(slug=slug)
        assert answer["tenant_id"] == ids.encode("ten", tenant.pk)
        assert ids.decode("prj", answer["project_id"])
        assert api_keys.parse(answer["api_key"])
        assert answer["base_url"].startswith("http")
        assert answer["dashboard_url"].startswith(answer["base_url"])
        (budget,) = answer["budgets"]
        assert budget["limit_usd"] == "10"
        assert (budget["scope"], budget["subject"], budget["window"]) == ("customer", "*", "month")
        assert Member.objects.get(tenant=tenant).user.email == "alice@example.com"
        policy = policies.decode(bytes(PolicySnapshot.objects.get(pk=tenant.pk).body))
        assert policy.keys[0].project == ""
        assert (
            Api(secret=answer["api_key"]).post("/v1/projects", {"slug": "web", "name": "Web"}).status == 201
        )
        assert policy.keys[0].scopes == ("preflight", "settle", "read", "manage")
        assert [ids.encode("bud", rule.budget_id) for rule in policy.budgets] == [budget["id"]]

    def test_changes_nothing_when_repeated(self) -> None:
        slug = unique("acme")
        order = ("--budget", "customer:*:10:month", "--budget", "tag:feature=*:5:day")
        first = provision(slug, *order)
        audited = AuditEntry.objects.filter(tenant__slug=slug).count()
        second = provision(slug, *order)
        assert second == {**first, "api_key": None}
        assert len(budgets_of(slug)) == 2
        assert ApiKey.objects.filter(tenant__slug=slug).count() == 1
        assert AuditEntry.objects.filter(tenant__slug=slug).count() == audited

    def test_issues_another_key_when_asked(self) -> None:
        slug = unique("acme")
        first, second = provision(slug), provision(slug, "--new-key")
        assert second["api_key"] not in (None, first["api_key"])
        assert ApiKey.objects.filter(tenant__slug=slug, revoked_at__isnull=True).count() == 2

    def test_edits_a_limit_that_differs(self) -> None:
        slug = unique("acme")
        first = provision(slug, "--budget", "customer:*:10:month")
        second = provision(slug, "--budget", "customer:*:0.5:month")
        assert second["budgets"][0]["id"] == first["budgets"][0]["id"]
        assert second["budgets"][0]["limit_usd"] == "0.5"
        (budget,) = budgets_of(slug)
        assert (budget.limit, budget.version) == (500_000_000, 2)

    def test_keeps_budgets_of_other_subjects_metrics_and_windows_apart(self) -> None:
        slug = unique("acme")
        specs = (
            "customer:*:10:month",
            "customer:c1:10:month",
            "customer:*:10:day",
            "customer:*:10:month:tokens",
            "user:*:10:month",
        )
        arguments = [part for spec in specs for part in ("--budget", spec)]
        assert len(provision(slug, *arguments)["budgets"]) == 5
        assert len(budgets_of(slug)) == 5

    def test_undoes_everything_when_a_budget_is_refused(self) -> None:
        slug = unique("acme")
        with pytest.raises(CommandError, match="subject: must be the slug of a project") as refused:
            provision(slug, "--budget", "customer:*:10:month", "--budget", "project:elsewhere:10:month")
        assert refused.value.returncode == 2
        assert not Tenant.objects.filter(slug=slug).exists()

    def test_refuses_one_budget_with_two_limits(self) -> None:
        with pytest.raises(CommandError, match=r"argument --budget: .*given twice") as refused:
            provision(unique("acme"), "--budget", "user:*:1:day", "--budget", "user:*:2:day")
        assert refused.value.returncode == 2

    def test_takes_one_budget_twice_with_one_limit(self) -> None:
        slug = unique("acme")
        provision(slug, "--budget", "user:*:1:day", "--budget", "user:*:1.0:day")
        assert len(budgets_of(slug)) == 1

    def test_speaks_plainly_without_json(self) -> None:
        out = io.StringIO()
        call_command("provision", "--tenant", unique("acme"), "--budget", "tenant:*:1:day", stdout=out)
        assert "API key    nb_live_" in out.getvalue()
        assert "tenant: 1 USD per day" in out.getvalue()

    def test_makes_one_tenant_when_run_twice_at_once(self) -> None:
        slug = unique("acme")
        answers: list[dict[str, Any]] = []
        start = threading.Barrier(4, timeout=30)

        def work() -> None:
            start.wait()
            try:
                answers.append(provision(slug, "--budget", "customer:*:10:month"))
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == 4
        assert len({answer["budgets"][0]["id"] for answer in answers}) == 1
        assert sum(answer["api_key"] is not None for answer in answers) == 1

    @pytest.mark.parametrize(
        ("argument", "value", "message"),
        [
            ("--budget", "customer:*:10", "too few parts"),
            ("--budget", "planet:*:10:month", "scope must be one of tenant"),
            ("--budget", "customer:*:10:decade", "window must be one of minute"),
            ("--budget", "customer:*:10:month:euro", "metric must be one of usd"),
            ("--budget", "customer:*:ten:month", "limit_usd must be a decimal string"),
            ("--budget", "customer:*:9000001:month", "limit_usd must be at most 9000000 USD"),
            ("--budget", "customer:*:0.5:month:tokens", "limit_tokens must be a whole number"),
            ("--budget", "customer::10:month", "subject must be 1 to 200 characters"),
            ("--budget", "tenant:acme:10:month", "subject must be \\*"),
            ("--budget", "customer:*:10:run", "window may be run only with scope run"),
            ("--tenant", "No Slug", "must be 1 to 63 characters"),
            ("--email", "nobody", "is not an email address"),
        ],
    )
    def test_names_the_argument_that_is_wrong(self, argument: str, value: str, message: str) -> None:
        with pytest.raises(CommandError, match=f"argument {argument}: .*{message}") as refused:
            call_command(
                "provision", *(() if argument == "--tenant" else ("--tenant", "acme")), argument, value
            )
        if argument == "--budget":
            assert "Accepted: SCOPE:SUBJECT:AMOUNT:WINDOW[:METRIC]" in str(refused.value)


class TestBudgetSpec:
    @pytest.mark.parametrize(
        ("text", "scope", "subject", "tag", "limit", "window", "metric"),
        [
            ("customer:*:10:month", "customer", "*", None, "10", "month", "usd"),
            ("user:a:b:c:5:total", "user", "a:b:c", None, "5", "total", "usd"),
            ("user:a:b:5:day:tokens", "user", "a:b", None, "5", "day", "tokens"),
            ("tag:feature=*:3:week", "tag", "*", "feature", "3", "week", "usd"),
            ("tag:feature=chat:3:week:requests", "tag", "feature=chat", None, "3", "week", "requests"),
            ("run:*:1:run", "run", "*", None, "1", "run", "usd"),
        ],
    )
    def test_reads_every_form(
        self, text: str, scope: str, subject: str, tag: str | None, limit: str, window: str, metric: str
    ) -> None:
        budget = budget_spec(text)
        assert (budget.scope, budget.subject, budget.tag) == (scope, subject, tag)
        assert (budget.limit, budget.window, budget.metric) == (limit, window, metric)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "provision", "--tenant", "acme", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestCommandLine:
    def test_says_what_to_do_before_the_migrations_have_run(self, servers: dict[str, str]) -> None:
        # The server's own database `postgres` is as empty as a new one.
        names = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_GATEWAY_URL")
        elsewhere = {name: urlsplit(servers[name])._replace(path="/postgres").geturl() for name in names}
        done = run("--json", **elsewhere)
        assert done.returncode == 1
        assert "Run first: python manage.py migrate" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

    def test_ends_with_status_2_and_the_accepted_forms(self, servers: dict[str, str]) -> None:
        done = run("--budget", "customer")
        assert done.returncode == 2
        assert "argument --budget" in done.stderr
        assert "customer:*:10:month" in done.stderr
