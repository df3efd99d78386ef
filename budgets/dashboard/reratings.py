"""Re-ratings: what settled calls should have cost, looked at first, and then applied."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from budgets.dashboard.models_base import ModelsPage
from budgets.domain.rerating import REASON_CHARS_MAX, LeftOut
from budgets.domain.usage import NAME_CHARS_MAX
from budgets.models import Rerating, ReratingState
from budgets.services.reratings import (
    FILTERS,
    NewRerating,
    ReratingConflict,
    ReratingNotFound,
    apply_rerating,
    request_rerating,
)
from noburn.dashboard import wording
from noburn.dashboard.exports import export
from noburn.dashboard.fields import MomentField
from noburn.dashboard.forms import PageForm
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic
from tenants.queries.actors import actor_names

COLUMNS: Final = (
    Column("made", "Asked for", sort="pk"),
    Column("calls", "Calls placed"),
    Column("reason", "Why"),
    Column("changed", "Changed", numeric=True),
    Column("difference", "Difference", numeric=True),
    Column("state", "State"),
)
EXPORTED: Final = (
    "id", "state", "starts_at", "ends_at", *FILTERS, "prices_at", "reason", "created_by", "created_at", "seen_calls",
    "changed_calls", "old_usd", "new_usd", "difference_usd", "applied_by", "applied_calls", "moved_calls", "applied_usd",
)  # fmt: skip
KEPT: Final = {
    LeftOut.TOLD: "their caller told the cost, which is never re-rated",
    LeftOut.ESTIMATED: "no price was known, and the pre-flight's own estimate was posted",
    LeftOut.UNKNOWN_ORIGIN: "recorded by an earlier release, which did not note whose word the cost is",
    LeftOut.PRESUMED: "nobody has settled them yet",
    LeftOut.NOT_COUNTED: "nothing is known of what they used",
    LeftOut.UNPRICED: "their model, or something that they used, has no price at these prices",
}
BY: Final = {"model": ("provider", "model"), "customer": ("customer",)}
AT_WORK: Final = (ReratingState.PREVIEWING, ReratingState.APPLYING)


class ReratingsPage(ModelsPage):
    """A page about re-ratings."""

    topic = Topic.RERATINGS
    tab = "reratings"


class Reratings(ReratingsPage):
    """Re-ratings and previews, the newest first."""

    title = "Re-ratings"
    template_name = "models/reratings.html"
    partials = {"rerating-rows": "models/_rerating_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self._rows().order_by("-pk").iterator(chunk_size=500)
            return export(
                form,
                name=f"{self.tenant.slug}-reratings",
                columns=EXPORTED,
                rows=(_cells(row) for row in rows),
            )
        return self.show()

    def _rows(self) -> QuerySet[Rerating]:
        state = self.request.GET.get("state", "")
        if state and state not in ReratingState.values:
            raise Invalid([FieldError("state", f"must be one of {', '.join(ReratingState.values)}")])
        # What differs by model and customer is of a re-rating's own page.
        rows = Rerating.objects.filter(tenant_id=self.tenant_id).defer("by_model", "by_customer")
        return rows.filter(state=state) if state else rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of them."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "states": ReratingState.values,
            "state": self.request.GET.get("state", ""),
            "rows": [
                (row, ids.encode(ids.RERATING, row.pk), row.new_nano - row.old_nano) for row in table.rows
            ],
        }


class ReratingForm(PageForm):
    """Which calls, and at which prices."""

    starts_at = MomentField(label="Calls placed from", required=True, help_text="In your tenant's time zone.")
    ends_at = MomentField(
        label="Until",
        help_text="Empty: until now. Choose a time from which no settlement is to come: one that comes makes the "
        "preview void.",
    )
    provider = forms.CharField(required=False, max_length=NAME_CHARS_MAX, help_text="Empty: every one.")
    model = forms.CharField(
        required=False, max_length=NAME_CHARS_MAX, help_text="As calls asked for it. Empty: every one."
    )
    customer = forms.CharField(required=False, max_length=NAME_CHARS_MAX, help_text="Empty: every one.")
    project = forms.CharField(required=False, max_length=NAME_CHARS_MAX, help_text="Empty: every one.")
    prices = forms.ChoiceField(
        label="What they should cost",
        choices=[
            ("now", "what they would cost, were they placed now"),
            ("then", "what they would have cost at the time below"),
            ("placed", "what they should have cost when they were placed, by the price book as it is now"),
        ],
        widget=forms.RadioSelect,
        initial="now",
    )
    prices_at = MomentField(label="Prices of", help_text="For the second choice alone.")
    reason = forms.CharField(
        max_length=REASON_CHARS_MAX, help_text="Stands in the audit log, with your name."
    )

    def clean(self) -> dict[str, Any] | None:
        """Needs a time where prices of a time are chosen, and none elsewhere."""
        given = super().clean() or self.cleaned_data
        if given.get("prices") == "then" and not given.get("prices_at") and "prices_at" not in self.errors:
            self.add_error("prices_at", "Say whose prices: those of which time.")
        if given.get("prices") != "then" and given.get("prices_at"):
            self.add_error("prices_at", "Leave this empty, or choose the prices of a time.")
        return given

    def wanted(self) -> NewRerating:
        """The re-rating that the form asks for."""
        given = self.cleaned_data
        return NewRerating(
            starts_at=given["starts_at"],
            ends_at=given["ends_at"],
            **{name: given[name] for name in FILTERS},
            prices_at=given["prices_at"],
            as_placed=given["prices"] == "placed",
            reason=given["reason"],
        )


class ReratingNew(ReratingsPage):
    """Asks for a preview."""

    title = "Re-rate calls"
    template_name = "models/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a link may name the model."""
        initial = {name: self.request.GET.get(name, "")[:NAME_CHARS_MAX] for name in FILTERS}
        return {
            "form": ReratingForm(initial={**initial, "prices": "now"}),
            **super().get_context_data(**kwargs),
            "button": "Preview",
            "back": self.url("reratings"),
            "lead": "First you see what would change, call by model and customer. Nothing changes before you apply it.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Lets workers make the preview."""
        form = ReratingForm(request.POST)
        if form.is_valid():
            try:
                made = request_rerating(
                    tenant_id=self.tenant_id, wanted=form.wanted(), actor=self.actor, now=self.now
                )
            except Invalid as invalid:
                form.take(invalid)
            except ReratingConflict as conflict:
                form.add_error(None, _told(conflict))
            else:
                return self.go("rerating", rrt=ids.encode(ids.RERATING, made.pk))
        return self.show(form=form, status=400)


class OfRerating(ReratingsPage):
    """A page about one re-rating."""

    @cached_property
    def rerating(self) -> Rerating:
        """The re-rating. Raises Missing."""
        wanted = self.path_id(ids.RERATING, self.kwargs["rrt"])
        found = Rerating.objects.filter(tenant_id=self.tenant_id, pk=wanted).first()
        if found is None:
            raise ReratingNotFound(self.kwargs["rrt"])
        return found

    def back(self) -> str:
        """Where no leads."""
        return self.url("rerating", rrt=self.kwargs["rrt"])


class ReratingPage(OfRerating):
    """One re-rating: what it would change, or changed; and how far it is."""

    title = "Re-rating"
    template_name = "models/rerating.html"
    partials = {"rerating": "models/_rerating.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its largest differences by model or customer as a file."""
        if form := request.GET.get("format"):
            by = request.GET.get("by", "model")
            if by not in BY:
                raise Invalid([FieldError("by", f"must be one of {', '.join(BY)}")])
            groups = self.rerating.by_model if by == "model" else self.rerating.by_customer
            return export(
                form,
                name=f"{self.tenant.slug}-rerating-by-{by}",
                columns=[*BY[by], "calls", "old_usd", "new_usd", "difference_usd"],
                rows=(
                    [
                        *(group[name] for name in BY[by]),
                        group["calls"],
                        to_usd(group["old_nano"]),
                        to_usd(group["new_nano"]),
                        to_usd(group["new_nano"] - group["old_nano"]),
                    ]
                    for group in groups
                ),
            )
        return self.show()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The figures."""
        row = self.rerating
        names = actor_names(tenant_id=self.tenant_id, actors=[row.created_by, row.applied_by])
        return {
            **super().get_context_data(**kwargs),
            "row": row,
            "wire": self.kwargs["rrt"],
            "at_work": row.state in AT_WORK,
            "difference_nano": row.new_nano - row.old_nano,
            "by_model": [_with_difference(group) for group in row.by_model],
            "by_customer": [_with_difference(group) for group in row.by_customer],
            "kept": [
                (KEPT.get(LeftOut(reason), reason), found["calls"], found["cost_nano"])
                for reason, found in sorted(row.left_out.items())
            ],
            "asked_by": names.get(row.created_by, row.created_by),
            "applied_by": names.get(row.applied_by, row.applied_by),
            "may_apply": self.may_change and row.state == ReratingState.PREVIEWED and row.changed_calls,
        }


class ReratingApply(OfRerating, ConfirmPage):
    """Asks before a preview is applied."""

    title = "Apply the re-rating"
    button = "Apply it"

    def question(self) -> str:
        """What is asked."""
        row = self.rerating
        return f"Give {wording.count(row.changed_calls)} call{'' if row.changed_calls == 1 else 's'} another cost?"

    def consequences(self) -> list[str]:
        """What will happen."""
        row = self.rerating
        difference = row.new_nano - row.old_nano
        verb = "falls" if difference < 0 else "rises"
        return [
            f"Their cost {verb} by {wording.usd(abs(difference))}: from {wording.usd(row.old_nano)} to "
            f"{wording.usd(row.new_nano)}.",
            "The ledger gets an entry of kind rerated for each; none is altered. What budgets have spent, usage and "
            "charges follow, also in windows that have ended.",
            "Nothing is refused for it after the fact; but where a limit is passed by it, the next call is refused.",
            "If a price or one of the calls changed since the preview, nothing is done. Another "
            "re-rating undoes it.",
        ]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The question, as long as there is something to be applied."""
        if self.rerating.state != ReratingState.PREVIEWED:
            return self.go("rerating", rrt=self.kwargs["rrt"])
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Lets workers apply it."""
        try:
            apply_rerating(
                tenant_id=self.tenant_id, rerating_id=self.rerating.pk, actor=self.actor, now=self.now
            )
        except ReratingConflict as conflict:
            return self.refuse("It was not applied", _told(conflict), status=409)
        return self.go("rerating", rrt=self.kwargs["rrt"], say="It is being applied.")


def _told(conflict: ReratingConflict) -> str:
    changes = "; ".join(f"{change.field} {change.message}" for change in conflict.changes)
    return f"{conflict} {changes[:1].upper()}{changes[1:]}." if changes else str(conflict)


def _with_difference(group: dict[str, Any]) -> dict[str, Any]:
    return {**group, "difference_nano": group["new_nano"] - group["old_nano"]}


def _cells(row: Rerating) -> list[Any]:
    return [
        ids.encode(ids.RERATING, row.pk),
        row.state,
        row.starts_at.isoformat(),
        row.ends_at.isoformat(),
        *(getattr(row, name) for name in FILTERS),
        row.prices_at.isoformat() if row.prices_at else None,
        *(row.reason, row.created_by, row.created_at.isoformat(), row.seen_calls, row.changed_calls),
        *(to_usd(row.old_nano), to_usd(row.new_nano), to_usd(row.new_nano - row.old_nano)),
        *(row.applied_by or None, row.applied_calls, row.moved_calls, to_usd(row.applied_nano)),
    ]
