"""Policies: rules in order that say which model a call uses; tried on the past before they are saved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from budgets.dashboard.histories import history_of
from budgets.dashboard.policy_forms import Editor
from budgets.dashboard.policy_words import rules_words
from budgets.models import RoutingPolicy
from budgets.queries.bounded import TookTooLong, limited
from budgets.services.routing import (
    PolicyFields,
    PolicyNotFound,
    archive_policy,
    create_policy,
    edit_policy,
    fields_of,
)
from budgets.services.routing_simulation import DECISIONS_MAX, Simulation, Wanted, simulate
from noburn.dashboard.exports import export
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic

DAYS: Final = {"1": "the last day", "7": "the last 7 days", "30": "the last 30 days"}
DAYS_DEFAULT: Final = "7"
SIMULATION_MS: Final = 5_000
ARCHIVED: Final = (
    Column("name", "Policy", sort="name"),
    Column("version", "Versions", numeric=True),
    Column("archived", "Archived"),
    Column("made", "Made", sort="pk"),
)
EXPORTED: Final = (
    "policy", "name", "version", "position", "enabled", "archived_at", "number", "rule", "when", "then",
)  # fmt: skip
EXAMPLE: Final[dict[str, Any]] = {
    "name": "by task",
    "enabled": True,
    "position": 0,
    "time_zone": None,
    "tiers": {
        "openai": {"small": "gpt-4o-mini", "big": "gpt-4.1"},
        "anthropic": {"small": "claude-haiku-4-5", "big": "claude-sonnet-4-5"},
    },
    "rules": [
        {
            "name": "short strict JSON",
            "when": {"task": ["extract", "classify"], "output": ["schema"], "input_tokens": {"max": 4000}},
            "then": {"action": "use_tier", "tier": "small"},
        },
        {
            "name": "long input",
            "when": {"input_tokens": {"min": 50000}},
            "then": {"action": "use_tier", "tier": "big"},
        },
        {"name": "many steps", "when": {"steps": {"min": 30}}, "then": {"action": "use_tier", "tier": "big"}},
    ],
}
"""The worked example of docs/policies.md."""


class PoliciesPage(TenantPage):
    """A page about policies."""

    topic = Topic.BUDGETS
    section = "policies"


class Policies(PoliciesPage):
    """The policies in their order, with their rules; or those that are archived."""

    title = "Policies"
    template_name = "rules/policies.html"

    @property
    def archived(self) -> bool:
        """Whether archived ones are asked for."""
        return bool(self.request.GET.get("archived"))

    def _rows(self) -> QuerySet[RoutingPolicy]:
        return RoutingPolicy.objects.filter(tenant_id=self.tenant_id, archived_at__isnull=not self.archived)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or all rules as a file."""
        if form := request.GET.get("format"):
            rows = self._rows().order_by("position", "created_at", "pk").iterator(chunk_size=500)
            return export(
                form,
                name=f"{self.tenant.slug}-policies",
                columns=EXPORTED,
                rows=(cells for row in rows for cells in _cells(row)),
            )
        return self.show()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """All that calls go by (there are at most twenty), or a page of archived ones."""
        context = {**super().get_context_data(**kwargs), "archived": self.archived}
        if self.archived:
            table = table_of(self._rows(), self.request.GET, columns=ARCHIVED, sort="-made")
            return {
                **context,
                "table": table,
                "rows": [(row, ids.encode(ids.POLICY, row.pk)) for row in table.rows],
            }
        rows = self._rows().order_by("position", "created_at", "pk")
        return {
            **context,
            "policies": [
                (row, ids.encode(ids.POLICY, row.pk), rules_words(row.rules, row.tiers)) for row in rows
            ],
        }


def _cells(row: RoutingPolicy) -> list[list[Any]]:
    archived = row.archived_at.isoformat() if row.archived_at else None
    own = [ids.encode(ids.POLICY, row.pk), row.name, row.version, row.position, row.enabled, archived]
    return [
        [*own, number, words["name"], words["when"], words["then"]]
        for number, words in enumerate(rules_words(row.rules, row.tiers), 1)
    ]


class OfPolicy(PoliciesPage):
    """A page about one policy."""

    live = True
    """Whether an archived policy is as good as none here."""

    @cached_property
    def policy(self) -> RoutingPolicy:
        """The policy. Raises Missing."""
        return policy_of(self, self.kwargs["pol"], live=self.live)

    def back(self) -> str:
        """Where no leads."""
        return self.url("policy", pol=self.kwargs["pol"])


def policy_of(page: TenantPage, wire: str, *, live: bool) -> RoutingPolicy:
    """Returns the policy of an id on the wire. Raises Missing."""
    rows = RoutingPolicy.objects.filter(tenant_id=page.tenant_id, pk=page.path_id(ids.POLICY, wire))
    found = (rows.filter(archived_at__isnull=True) if live else rows).first()
    if found is None:
        raise PolicyNotFound(wire)
    return found


class PolicyPage(OfPolicy):
    """One policy: its rules in words, and its versions."""

    template_name = "rules/policy.html"
    live = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The policy with what was done to it."""
        policy = self.policy
        entries = history_of(self, self.kwargs["pol"], since=policy.created_at)
        for entry in entries or ():
            after = entry["after"]
            entry["rules"] = rules_words(after.get("rules") or (), after.get("tiers") or {})
        return {
            **super().get_context_data(**kwargs),
            "title": policy.name,
            "policy": policy,
            "wire": self.kwargs["pol"],
            "rules": rules_words(policy.rules, policy.tiers),
            "tiers": [(name, said.get("small"), said.get("big")) for name, said in policy.tiers.items()],
            "may_edit": self.may_change and policy.archived_at is None,
            "versions": entries,
        }


class PolicyEditor(PoliciesPage):
    """The form of a policy, with a form for each rule."""

    template_name = "rules/policy_form.html"
    for_changing = True

    def edited(self, editor: Editor, *, replaces: RoutingPolicy | None, **more: Any) -> dict[str, Any]:
        """What the page of an editor needs. `replaces` is the policy that is edited; None: a new one."""
        wire = ids.encode(ids.POLICY, replaces.pk) if replaces else ""
        return {
            "editor": editor,
            "replaces": wire,
            "version": replaces.version if replaces else "",
            "save_url": self.url("policy-edit", pol=wire) if replaces else self.url("policy-new"),
            "back": self.url("policy", pol=wire) if replaces else self.url("policies"),
            "title": f"Change {replaces.name}" if replaces else "New policy",
            "days": DAYS,
            "chosen_days": DAYS_DEFAULT,
            **more,
        }


class PolicyNew(PolicyEditor):
    """A policy to be made; the worked example, if it is asked for."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form."""
        as_json = _as_json(request)
        begun = as_json or request.GET.get("from") == "example"
        editor = Editor.of(EXAMPLE, as_json=as_json) if begun else Editor.blank()
        return self.show(**self.edited(editor, replaces=None))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it; calls go by it from the next one on."""
        editor = Editor.sent(request.POST)
        if (policy := editor.read()) is not None:
            try:
                made = create_policy(tenant_id=self.tenant_id, policy=policy, actor=self.actor, now=self.now)
            except Invalid as invalid:
                editor.take(invalid)
            else:
                return self.go("policy", pol=ids.encode(ids.POLICY, made.pk), say=_said(made))
        return self.show(**self.edited(editor, replaces=None), status=400)


class PolicyEdit(OfPolicy, PolicyEditor):
    """A policy that is there, or an earlier version of it to be saved again."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form, filled with what holds, or with the version that is named."""
        fields = fields_of(self.policy)
        if version := request.GET.get("version"):
            fields |= self._earlier(version)
        editor = Editor.of(fields, as_json=_as_json(request))
        return self.show(**self.edited(editor, replaces=self.policy, taken_up=version))

    def _earlier(self, version: str) -> dict[str, Any]:
        """What an earlier version said, from the audit log. Raises Missing."""
        entries = history_of(self, self.kwargs["pol"], since=self.policy.created_at) or []
        for entry in entries:
            if str(entry["after"].get("version")) == version:
                kept = ("name", "rules", "tiers", "time_zone")
                return {name: entry["after"][name] for name in kept}
        raise PolicyNotFound(version)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Saves it as the next version."""
        policy, editor = self.policy, Editor.sent(request.POST)
        if request.POST.get("version") != str(policy.version):
            now = f"somebody saved version {policy.version} since: look at it, and make your change there"
            editor.form.full_clean()
            editor.form.add_error(None, f"{now[0].upper()}{now[1:]}.")
        elif (wanted := editor.read()) is not None:
            try:
                saved = edit_policy(
                    tenant_id=self.tenant_id,
                    policy_id=policy.pk,
                    changes=_changes(wanted),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                editor.take(invalid)
            else:
                return self.go("policy", pol=self.kwargs["pol"], say=_said(saved))
        return self.show(**self.edited(editor, replaces=policy), status=400)


class PolicyDraft(PolicyEditor):
    """A policy on its way to being saved: rules added, moved and taken away, or all of it tried on the past."""

    # Nothing is changed here, and a simulation takes its time.
    locked = False

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A draft is only ever sent."""
        return self.go("policy-new")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Does what a button says, and shows the form again."""
        wire, do = request.POST.get("policy", ""), request.POST.get("do", "")
        replaces = policy_of(self, wire, live=True) if wire else None
        days = request.POST.get("days", "")
        days = days if days in DAYS else DAYS_DEFAULT
        # The version that the editor began with, which saving compares.
        more: dict[str, Any] = {"version": request.POST.get("version", "")[:20], "chosen_days": days}
        if do != "simulate":
            editor = Editor.changed(request.POST, do)
            return self.show(**self.edited(editor, replaces=replaces, **more))
        editor = Editor.sent(request.POST)
        policy = editor.read()
        if policy is None:
            return self.show(**self.edited(editor, replaces=replaces, **more), status=400)
        found = self._simulated(policy, replaces.pk if replaces else None, int(days))
        return self.show(**self.edited(editor, replaces=replaces, simulation=found, **more))

    def _simulated(self, policy: PolicyFields, replaces: UUID | None, days: int) -> dict[str, Any]:
        wanted = Wanted(
            policy=policy, replaces=replaces, since=self.now - timedelta(days=days), until=self.now
        )
        try:
            with limited(milliseconds=SIMULATION_MS):
                found = simulate(tenant_id=self.tenant_id, wanted=wanted, now=self.now)
        except TookTooLong:
            message = f"reading them takes longer than {SIMULATION_MS // 1000} s: choose a shorter time"
            raise Invalid([FieldError("days", message)]) from None
        return {"found": found, "rules": self._by_rule(found), "most": DECISIONS_MAX}

    def _by_rule(self, found: Simulation) -> list[dict[str, Any]]:
        named = {one.policy_id for one in found.rules if one.policy_id is not None}
        rows = RoutingPolicy.objects.filter(tenant_id=self.tenant_id, pk__in=named)
        names = dict(rows.values_list("pk", "name"))
        return [
            {
                "rule": one,
                "policy": names.get(one.policy_id) if one.policy_id else None,
                "difference_nano": one.after_nano - one.before_nano,
            }
            for one in found.rules
        ]


class PolicyArchive(OfPolicy, ConfirmPage):
    """Asks before a policy ends."""

    title = "Archive the policy"
    button = "Archive it"

    def question(self) -> str:
        """What is asked."""
        return f"Archive “{self.policy.name}”?"

    def consequences(self) -> list[str]:
        """What will happen."""
        number = len(self.policy.rules)
        return [
            f"From the next call on, its {number} rule{'' if number == 1 else 's'} decide{'s' if number == 1 else ''} "
            "nothing: calls use the model that they ask for, unless another policy says otherwise.",
            "What it blocked is let through, as far as budgets and guards allow.",
            "Decisions that name it stay. It cannot be brought back; make another one from its rules.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Archives it."""
        archive_policy(tenant_id=self.tenant_id, policy_id=self.policy.pk, actor=self.actor, now=self.now)
        return self.go("policies", say="The policy is archived.")


def _as_json(request: HttpRequest) -> bool:
    return request.GET.get("as") == "json"


def _changes(policy: PolicyFields) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in PolicyFields.__dataclass_fields__}


def _said(saved: RoutingPolicy) -> str:
    goes = (
        "Calls go by it from the next one on." if saved.enabled else "It is switched off: no call goes by it."
    )
    return f"Version {saved.version} is saved. {goes}"
