"""What all pages of the operators' admin have in common: they show rows, and change some through services.

A row saved by the admin itself would bypass audit log, policy and version. So nothing is added, changed or
deleted here; an action calls a service for each selected row, asks before it does, and is logged twice: by the
service in the tenant's audit log, and in Django's own history of the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator as UnboundedPaginator

from noburn.kit.problems import Invalid

ACTION_ROWS_MAX = 200
"""The most rows of one action: each is a transaction of its own while the operator waits."""

PAGES_MAX = 200
"""The last page that is shown: the database walks over every earlier row to find a page. Filters lead further."""


def operator(request: HttpRequest) -> str:
    """Names the operator as the audit log does."""
    return f"operator:{request.user.pk}"


class InfinitePaginator(UnboundedPaginator):
    """Pages without a count of all rows, which would be the slowest query of a page over a large table.

    Named as its parent, since the templates ask for that name.
    """

    @property
    def count(self) -> int:
        """A bound in place of a count."""
        return int(self.per_page) * PAGES_MAX


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows and changes none."""

    list_per_page = 50
    list_max_show_all = 50
    show_full_result_count = False
    # Counts beside a filter's choices are counts of the whole table.
    show_facets = ShowFacets.NEVER
    paginator = InfinitePaginator
    list_filter_submit = True
    # A selection of "all" pages would be one of unknown size.
    list_disable_select_all = True
    actions_on_top = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tells whether the operator may run this table's actions, each of which calls a service."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def confirmed(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        *,
        action: str,
        question: str,
        consequence: str,
        apply: Callable[[Any], object],
    ) -> HttpResponse | None:
        """Asks with a page of its own, and applies a service to each selected row once that was answered.

        `apply` raises Invalid or LookupError for a row that it refuses; the operator is told, and the others go on.
        """
        chosen = list(rows.order_by("pk")[: ACTION_ROWS_MAX + 1])
        if len(chosen) > ACTION_ROWS_MAX:
            messages.error(request, f"At most {ACTION_ROWS_MAX} rows at a time.")
            return None
        if request.POST.get("confirmed") != "yes":
            return TemplateResponse(
                request,
                "admin/operator/confirm.html",
                {
                    **self.admin_site.each_context(request),
                    "opts": self.opts,
                    "title": question,
                    "consequence": consequence,
                    "rows": chosen,
                    "action": action,
                    "checkbox": ACTION_CHECKBOX_NAME,
                    "back": request.get_full_path(),
                    "media": self.media,
                },
            )
        done = 0
        for row in chosen:
            try:
                apply(row)
            except (Invalid, LookupError) as problem:
                messages.error(request, f"{row}: {problem}")
            else:
                self.log_change(request, row, f"action: {action}")
                done += 1
        if done:
            messages.success(request, f"Done for {done} of {len(chosen)}.")
        return None
