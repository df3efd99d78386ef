"""API keys: listed, issued (and shown once), rotated, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic
from tenants.models import ApiKey, KeyScope, Project
from tenants.services.keys import IssuedKey, KeyNotFound, issue_key, revoke_key, rotate_key

COLUMNS = (
    Column("name", "Name", sort="name"),
    Column("shown", "Key"),
    Column("scopes", "May"),
    Column("project", "Project"),
    Column("used", "Last used"),
    Column("created", "Made", sort="pk"),
    Column("actions", "Actions", hidden_label=True),
)
SCOPES = [
    (KeyScope.PREFLIGHT, "ask before calls (preflight)"),
    (KeyScope.SETTLE, "say what calls used (settle)"),
    (KeyScope.READ, "read everything over the API (read)"),
    (KeyScope.MANAGE, "change everything over the API (manage)"),
]
OVERLAPS = [("0", "not at all"), ("3600", "an hour"), ("86400", "a day"), ("604800", "a week")]


class KeyForm(PageForm):
    """A key to be issued."""

    name = forms.CharField(max_length=200, help_text="Where it is used: “web backend”.")
    scopes = forms.MultipleChoiceField(
        label="It may",
        choices=SCOPES,
        initial=[KeyScope.PREFLIGHT, KeyScope.SETTLE],
        widget=forms.CheckboxSelectMultiple,
    )
    project = forms.TypedChoiceField(
        required=False,
        empty_value=None,
        coerce=lambda text: ids.decode(ids.PROJECT, text),
        help_text="A key of one project charges its calls to it, and reads its use alone.",
    )

    def __init__(self, *args: Any, projects: QuerySet[Project], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["project"]
        assert isinstance(chosen, forms.TypedChoiceField)
        chosen.choices = [
            ("", "all projects"),
            *((ids.encode(ids.PROJECT, each.pk), each.name) for each in projects),
        ]


class RotateForm(PageForm):
    """How a key is replaced."""

    overlap_seconds = forms.TypedChoiceField(
        label="Both keys work for", choices=OVERLAPS, initial="86400", coerce=int
    )


class Keys(TenantPage):
    """All keys, the dead ones too."""

    topic = Topic.API_KEYS
    section = "keys"
    title = "API keys"
    template_name = "tenants/keys.html"
    partials = {"key-rows": "tenants/_key_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-keys",
                columns=[
                    "id",
                    "name",
                    "shown",
                    "scopes",
                    "project",
                    "created_at",
                    "expires_at",
                    "revoked_at",
                ],
                rows=(
                    [
                        ids.encode(ids.API_KEY, key.pk),
                        key.name,
                        str(key),
                        " ".join(key.scopes),
                        key.project.slug if key.project else None,
                        *(
                            at.isoformat() if at else None
                            for at in (key.created_at, key.expires_at, key.revoked_at)
                        ),
                    ]
                    for key in self._rows().order_by("-pk")[: EXPORT_ROWS_MAX + 1]
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[ApiKey]:
        return ApiKey.objects.select_related("project").filter(tenant_id=self.tenant_id)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of keys, each with what it is now."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-created")
        shown = [(key, ids.encode(ids.API_KEY, key.pk), self._state(key)) for key in table.rows]
        return {**super().get_context_data(**kwargs), "table": table, "keys": shown}

    def _state(self, key: ApiKey) -> str:
        if key.revoked_at is not None:
            return "revoked"
        if not key.is_live(self.now):
            return "expired"
        return "ending" if key.expires_at else "live"


class NewKey(TenantPage):
    """Issues a key, and shows its secret this once."""

    topic = Topic.API_KEYS
    section = "keys"
    title = "A new API key"
    template_name = "dashboard/form.html"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Issues it."""
        form = self._form(request.POST)
        if form.is_valid():
            wanted = dict(form.cleaned_data)
            project_id: UUID | None = wanted.pop("project")
            try:
                issued = issue_key(
                    tenant_id=self.tenant_id, project_id=project_id, actor=self.actor, now=self.now, **wanted
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return show_secret(self, issued)
        return self.show(form=form, status=400)

    def _form(self, *data: Any) -> KeyForm:
        return KeyForm(
            *data, projects=Project.objects.filter(tenant_id=self.tenant_id).order_by("name", "pk")
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        kwargs.setdefault("form", self._form())
        return {
            **super().get_context_data(**kwargs),
            "button": "Issue the key",
            "back": self.url("keys"),
            "lead": "Its secret is shown once, and stored nowhere.",
        }


class RevokeKey(ConfirmPage):
    """Ends a key."""

    topic = Topic.API_KEYS
    section = "keys"
    title = "Revoke an API key"
    button = "Revoke the key"

    def _key(self) -> ApiKey:
        return key_of(self)

    def question(self) -> str:
        """Which key."""
        key = self._key()
        return f"Revoke “{key.name}” ({key})?"

    def consequences(self) -> list[str]:
        """What stops, and what does not."""
        return [
            "From the next request on nobody gets in with it, and every program that uses it stops calling.",
            "What its calls still hold may be settled with it.",
            "It cannot be undone. To replace a key without a gap, rotate it instead.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Revokes it."""
        key = revoke_key(tenant_id=self.tenant_id, key_id=self._key().pk, actor=self.actor, now=self.now)
        return self.go("keys", say=f"“{key.name}” is revoked.")


class RotateKey(ConfirmPage):
    """Issues a key's successor."""

    topic = Topic.API_KEYS
    section = "keys"
    title = "Rotate an API key"
    button = "Issue the successor"
    destructive = False

    def question(self) -> str:
        """Which key."""
        key = key_of(self)
        return f"Replace “{key.name}” ({key})?"

    def consequences(self) -> list[str]:
        """What happens to both."""
        return [
            "A new key with the same name, scopes and project is made; its secret is shown once.",
            "The old one goes on working for as long as you say, and then ends by itself.",
        ]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and for how long both work."""
        kwargs.setdefault("form", RotateForm())
        return super().get_context_data(**kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Rotates it."""
        key, form = key_of(self), RotateForm(request.POST)
        if form.is_valid():
            overlap = timedelta(seconds=form.cleaned_data["overlap_seconds"])
            try:
                issued = rotate_key(
                    tenant_id=self.tenant_id, key_id=key.pk, overlap=overlap, actor=self.actor, now=self.now
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return show_secret(self, issued)
        return self.show(form=form, status=400)


def key_of(page: TenantPage) -> ApiKey:
    """The key that a page's path names. Raises KeyNotFound."""
    found = ApiKey.objects.filter(
        tenant_id=page.tenant_id, pk=page.path_id(ids.API_KEY, page.kwargs["key_id"])
    ).first()
    if found is None:
        raise KeyNotFound(page.kwargs["key_id"])
    return found


def show_secret(page: TenantPage, issued: IssuedKey) -> HttpResponse:
    """Answers with a page that shows a new key's secret: there is no other, and it cannot be loaded again."""
    page.template_name = "tenants/key_shown.html"
    return page.show(issued=issued, secret=issued.secret, form=None)
