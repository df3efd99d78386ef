"""The people who work at the tenant: invited, given another role, removed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage, TenantPage
from tenants.domain.roles import Topic
from tenants.models import Member, Role
from tenants.services.invitations import send_invitation
from tenants.services.members import MemberNotFound, add_member, change_role, remove_member

COLUMNS = (
    Column("email", "Who", sort="user__email"),
    Column("role", "Role"),
    Column("since", "Since", sort="pk"),
    Column("actions", "Actions", hidden_label=True),
)
ROLES = [
    (Role.OWNER, "Owner: everything, and makes other owners"),
    (Role.ADMIN, "Admin: everything but owners"),
    (Role.BILLING, "Billing: sees everything, changes prices and billing"),
    (Role.VIEWER, "Viewer: sees spending, changes nothing"),
]


class InviteForm(PageForm):
    """Somebody to be invited."""

    email = forms.CharField(
        label="E-mail address", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(choices=ROLES, initial=Role.VIEWER, widget=forms.RadioSelect)


class RoleForm(PageForm):
    """Another role."""

    role = forms.ChoiceField(choices=ROLES, widget=forms.RadioSelect)


class Team(TenantPage):
    """Everybody who works here."""

    topic = Topic.MEMBERS
    section = "team"
    title = "Team"
    template_name = "tenants/team.html"
    partials = {"team-rows": "tenants/_team_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-team",
                columns=["id", "email", "name", "role", "created_at"],
                rows=(
                    [
                        ids.encode(ids.MEMBER, each.pk),
                        each.user.email,
                        each.user.name,
                        each.role,
                        each.created_at.isoformat(),
                    ]
                    for each in self._rows().order_by("pk")[: EXPORT_ROWS_MAX + 1]
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Member]:
        return Member.objects.select_related("user").filter(tenant_id=self.tenant_id)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of members."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="email")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "members": [(each, ids.encode(ids.MEMBER, each.pk)) for each in table.rows],
            "you": self.request.user.pk,
        }


class Invite(TenantPage):
    """Makes somebody a member and tells them so."""

    topic = Topic.MEMBERS
    section = "team"
    title = "Invite somebody"
    template_name = "dashboard/form.html"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Adds them; the e-mail goes out once that is committed."""
        form = InviteForm(request.POST)
        if form.is_valid():
            try:
                member = add_member(
                    tenant_id=self.tenant_id,
                    by_owner=self.access.is_owner,
                    actor=self.actor,
                    now=self.now,
                    **form.cleaned_data,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                transaction.on_commit(lambda: self._tell(member))
                return self.go("team")
        return self.show(form=form, status=400)

    def _tell(self, member: Member) -> None:
        if send_invitation(member=member, by=str(self.request.user)):
            messages.success(self.request, f"{member.user.email} is a member now, and was sent an e-mail.")
        else:
            messages.warning(
                self.request,
                f"{member.user.email} is a member now, but no e-mail could be sent: they get in by "
                "“Forgotten your password?” on the sign-in page.",
            )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        kwargs.setdefault("form", InviteForm())
        return {
            **super().get_context_data(**kwargs),
            "button": "Invite",
            "back": self.url("team"),
            "lead": "They get an e-mail with a link, and are a member at once.",
        }


class ChangeRole(TenantPage):
    """Gives a member another role."""

    topic = Topic.MEMBERS
    section = "team"
    title = "Another role"
    template_name = "dashboard/form.html"
    for_changing = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it."""
        member, form = member_of(self), RoleForm(request.POST)
        if form.is_valid():
            try:
                change_role(
                    tenant_id=self.tenant_id,
                    member_id=member.pk,
                    by_owner=self.access.is_owner,
                    actor=self.actor,
                    now=self.now,
                    **form.cleaned_data,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("team", say=f"{member.user.email} has another role from now on.")
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        member = member_of(self)
        kwargs.setdefault("form", RoleForm(initial={"role": member.role}))
        return {
            **super().get_context_data(**kwargs),
            "title": f"Role of {member.user.email}",
            "back": self.url("team"),
        }


class RemoveMember(ConfirmPage):
    """Ends a membership."""

    topic = Topic.MEMBERS
    section = "team"
    title = "Remove a member"
    button = "Remove"

    def question(self) -> str:
        """Whom."""
        return f"Remove {member_of(self).user.email} from {self.tenant.name}?"

    def consequences(self) -> list[str]:
        """What ends, and what does not."""
        return [
            "They see and change nothing here any more, from their next click on.",
            "API keys that they made go on working; revoke those that they know.",
            "What they did stays in the audit log. They can be invited again.",
        ]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Removes them."""
        member = member_of(self)
        email = member.user.email
        remove_member(
            tenant_id=self.tenant_id,
            member_id=member.pk,
            by_owner=self.access.is_owner,
            actor=self.actor,
            now=self.now,
        )
        return self.go("team", say=f"{email} is no member any more.")


def member_of(page: TenantPage) -> Member:
    """The member that a page's path names. Raises MemberNotFound."""
    found = (
        Member.objects.select_related("user")
        .filter(tenant_id=page.tenant_id, pk=page.path_id(ids.MEMBER, page.kwargs["mem_id"]))
        .first()
    )
    if found is None:
        raise MemberNotFound(page.kwargs["mem_id"])
    return found
