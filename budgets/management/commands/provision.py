"""`python manage.py provision --tenant acme --budget customer:*:10:month --json`"""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from budgets.domain.budget_rules import limit_field, show_limit
from budgets.domain.policy import BUDGET_METRICS, BUDGET_SCOPES, EACH, Metric, Scope, WindowKind
from budgets.models import Budget
from budgets.services.budgets import NewBudget
from budgets.services.provisioning import ConflictingBudgets, Provisioned, provision
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import Invalid
from tenants.services.tenants import slug_errors

FORMS = (
    "Accepted: SCOPE:SUBJECT:AMOUNT:WINDOW[:METRIC], such as customer:*:10:month (10 USD a month for each "
    "customer), tenant:*:100:day, user:u1:5:total, tag:feature=chat:3:week, customer:*:100000:day:tokens, "
    f"project:web:500:hour:requests. SCOPE is one of {', '.join(BUDGET_SCOPES)}; SUBJECT is * for each of them; AMOUNT "
    f"is in USD, or whole for tokens and requests; WINDOW is one of {', '.join(WindowKind)}; METRIC is one of "
    f"{', '.join(BUDGET_METRICS)}, usd unless given. A subject may contain colons."
)


def budget_spec(text: str) -> NewBudget:
    """Reads SCOPE:SUBJECT:AMOUNT:WINDOW[:METRIC], from both ends, so that the subject may hold colons.

    `tag:feature=*` means each value of the tag. Raises ArgumentTypeError with every fault and the accepted forms.
    """
    parts = text.split(":")
    metric = Metric.USD.value
    if len(parts) > 4 and parts[-1] not in list(WindowKind):
        metric = parts.pop()
    if len(parts) < 4:
        raise ArgumentTypeError(f"{text!r} has too few parts. {FORMS}")
    subject, tag = ":".join(parts[1:-2]), None
    if parts[0] == Scope.TAG and subject.endswith("=*"):
        subject, tag = EACH, subject[:-2]
    budget = NewBudget(
        scope=parts[0], subject=subject, tag=tag, limit=parts[-2], window=parts[-1], metric=metric
    )
    errors = budget.errors()
    if errors:
        faults = "; ".join(f"{error.field} {error.message}" for error in errors)
        raise ArgumentTypeError(f"{text!r}: {faults}. {FORMS}")
    return budget


def tenant_slug(text: str) -> str:
    """Checks a tenant's name. Raises ArgumentTypeError."""
    for error in slug_errors("tenant", text):
        raise ArgumentTypeError(f"{text!r} {error.message}")
    return text


def email_address(text: str) -> str:
    """Checks an e-mail address. Raises ArgumentTypeError."""
    try:
        validate_email(text)
    except ValidationError:
        raise ArgumentTypeError(f"{text!r} is not an email address") from None
    return text


class Command(BaseCommand):
    help = "Sets up a tenant with an owner, a project, an API key and budgets. Repeating it changes what differs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the arguments; a bad one ends the command with status 2."""
        parser.add_argument("--tenant", required=True, type=tenant_slug, help="such as acme")
        parser.add_argument(
            "--email", type=email_address, help="of the owner; owner@TENANT.example unless given"
        )
        parser.add_argument(
            "--budget",
            action="append",
            default=[],
            type=budget_spec,
            metavar="SCOPE:SUBJECT:AMOUNT:WINDOW[:METRIC]",
            help=f"may be repeated. {FORMS}".replace("%", "%%"),
        )
        parser.add_argument("--new-key", action="store_true", help="issue another API key")
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    def handle(self, **options: Any) -> None:
        """Provisions and prints."""
        self._refuse_unmigrated()
        slug: str = options["tenant"]
        try:
            done = provision(
                slug=slug,
                email=options["email"] or f"owner@{slug.replace('_', '-')}.example",
                budgets=options["budget"],
                new_key=options["new_key"],
                actor="command:provision",
                now=utc_now(),
            )
        except ConflictingBudgets as conflict:
            raise CommandError(f"argument --budget: {conflict}. {FORMS}", returncode=2) from None
        except Invalid as invalid:
            raise CommandError(str(invalid), returncode=2) from None
        answer = _answer(done)
        self.stdout.write(json.dumps(answer) if options["json"] else _readable(answer))

    def _refuse_unmigrated(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError(
                "The database is not up to date. Run first: python manage.py migrate. If `make serve` is running, "
                f"it has another NOBURN_HOME than this command, which has {settings.NOBURN_HOME}"
            )


def _answer(done: Provisioned) -> dict[str, Any]:
    return {
        "tenant_id": ids.encode(ids.TENANT, done.tenant.pk),
        "project_id": ids.encode(ids.PROJECT, done.project.pk),
        "api_key": done.issued.secret if done.issued else None,
        "base_url": settings.BASE_URL,
        "dashboard_url": f"{settings.BASE_URL}/",
        "budgets": [_budget(budget) for budget in done.budgets],
    }


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "id": ids.encode(ids.BUDGET, budget.pk),
        "name": budget.name,
        "scope": budget.scope,
        "subject": budget.subject,
        "tag": budget.tag,
        "metric": budget.metric,
        "window": budget.window,
        limit_field(budget.metric): show_limit(budget.metric, budget.limit),
    }


def _readable(answer: dict[str, Any]) -> str:
    key = answer["api_key"] or "unchanged and not shown again (--new-key issues another)"
    lines = [
        f"tenant     {answer['tenant_id']}",
        f"project    {answer['project_id']}",
        f"API key    {key}",
        f"base URL   {answer['base_url']}",
        f"dashboard  {answer['dashboard_url']}",
    ]
    return "\n".join([*lines, *(f"budget     {row['id']}  {row['name']}" for row in answer["budgets"])])
