"""The base of every page of a tenant's: who asks, for which tenant, what they may, in which transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.views.generic import TemplateView

from noburn.dashboard import navigation
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import Invalid, Missing, ProblemError
from noburn.kit.tenancy import act_for
from tenants.domain.roles import READABLE, WRITABLE, Topic
from tenants.models import Tenant, User
from tenants.queries.memberships import memberships
from tenants.services import idempotency
from tenants.services.access import Access, member_access
from tenants.services.tenants import lock_tenant

SAFE = frozenset({"GET", "HEAD"})


class NeedsSecondFactor(Exception):
    """The tenant asks its members for a second factor, and this one has none."""


ONCE_CHARS_MAX = 64


class TenantPage(TemplateView):
    """A page of one tenant's, at /t/<slug>/….

    A page names its `topic`, which decides who may read it and who may send its forms (tenants.domain.roles), its
    `section` (the place in the navigation) and its `title`. Whoever is no member is told that there is nothing,
    whether the tenant exists or not. A POST runs in one transaction under the tenant's lock, as a change over the
    API does; Missing becomes the page "nothing here", a problem a page that says it.
    """

    topic: ClassVar[Topic]
    section: ClassVar[str] = ""
    title: ClassVar[str] = ""
    for_changing: ClassVar[bool] = False
    """Whether the page is for those only who may change its topic: a form, a question before something is done."""
    locked: ClassVar[bool] = True
    """Whether POST takes the tenant's lock; not where it waits for somebody else (a gateway, Stripe)."""
    partials: ClassVar[Mapping[str, str]] = {}
    """The template of a part, by the id of the element for which htmx asks."""

    http_method_names = ["get", "head", "post"]

    access: Access
    now: datetime

    @property
    def tenant(self) -> Tenant:
        """For which tenant."""
        return self.access.tenant

    @property
    def tenant_id(self) -> UUID:
        """Its id."""
        return self.access.tenant_id

    @property
    def actor(self) -> str:
        """Who asks, as the audit log names them."""
        return self.access.actor

    @property
    def zone(self) -> ZoneInfo:
        """The tenant's time zone, in which its pages say times."""
        return ZoneInfo(self.tenant.time_zone)

    @property
    def may_change(self) -> bool:
        """Whether this person may change what the page is about."""
        return self.may_change_topic(self.topic)

    def may_change_topic(self, topic: Topic) -> bool:
        """Whether this person may change something."""
        assert self.access.role is not None
        return topic in WRITABLE[self.access.role] and self.tenant.suspended_at is None

    # --- a request --------------------------------------------------------------------------------------

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Finds the tenant and the rights, then answers in the tenant's time zone."""
        self.now = utc_now()
        slug = kwargs.pop("tenant")
        self.kwargs = kwargs
        if not isinstance(request.user, User):
            return redirect_to_login(request.get_full_path())
        try:
            self.access = self._find(request.user, slug)
        except NeedsSecondFactor:
            return _to_second_factor(request)
        act_for(self.tenant_id)
        with timezone.override(self.zone):
            response = self._answer(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                response.render()
        patch_cache_control(response, private=True, no_store=True)
        patch_vary_headers(response, ("Cookie", "HX-Request", "HX-Target"))
        return response

    def _find(self, user: User, slug: str) -> Access:
        try:
            return member_access(user=user, tenant=slug)
        except ProblemError as refused:
            if refused.problem.type_slug == "second-factor-required":
                raise NeedsSecondFactor from None
            raise Http404 from None

    def _answer(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            if request.method in SAFE and not self.for_changing:
                self.access.require_read(self.topic)
            else:
                self.access.require_write(self.topic)
            if request.method in SAFE or not self.locked:
                return super().dispatch(request, *args, **kwargs)
            with transaction.atomic():
                lock_tenant(tenant_id=self.tenant_id)
                # Under the lock once more: rights may have been taken while the request waited for it.
                self.access = self._find_again(request)
                self.access.require_write(self.topic)
                return self._once(request, *args, **kwargs)
        except NeedsSecondFactor:
            return _to_second_factor(request)
        except Missing:
            raise Http404 from None
        except ProblemError as refused:
            return self.refuse(refused.problem.title, refused.problem.detail, status=refused.problem.status)
        except Invalid as invalid:
            said = "; ".join(f"{error.field} {error.message}" for error in invalid.errors)
            return self.refuse("This cannot be done", f"{said}.", status=HTTPStatus.BAD_REQUEST)

    def _once(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Does what a form asks, unless it was sent before (`{% once %}` in it): a page of an answer, loaded again."""
        word = request.POST.get("once", "")[:ONCE_CHARS_MAX]
        if not word:
            return super().dispatch(request, *args, **kwargs)
        digest = idempotency.digest_of(method="POST", path=request.path, actor=self.actor, body=b"")
        kept: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "key": f"page:{word}",
            "digest": digest,
            "now": self.now,
        }
        if idempotency.earlier_answer(**kept) is not None:
            messages.info(request, "That was done before, and was not done again.")
            return HttpResponseRedirect(self.url(self.section))
        response = super().dispatch(request, *args, **kwargs)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            # Only that it was answered: the answer itself may hold a secret.
            answer = idempotency.Answered(status=response.status_code, body=None, headers={})
            idempotency.keep_answer(answer=answer, **kept)
        return response

    def _find_again(self, request: HttpRequest) -> Access:
        assert isinstance(request.user, User)
        return self._find(request.user, self.tenant.slug)

    # --- what pages use ---------------------------------------------------------------------------------

    def path_id(self, prefix: str, text: str) -> UUID:
        """Reads an id of the path; what is no id is not there either. Raises Missing."""
        try:
            return ids.decode(prefix, text)
        except ids.BadId:
            raise Missing(text) from None

    def url(self, route: str, **kwargs: object) -> str:
        """The address of another page of this tenant's."""
        return navigation.page_url(route, tenant=self.tenant.slug, **kwargs)

    def go(self, route: str, *, say: str = "", **kwargs: object) -> HttpResponse:
        """Sends the browser to another page, which says what was done."""
        if say:
            messages.success(self.request, say)
        return HttpResponseRedirect(self.url(route, **kwargs))

    def refuse(self, title: str, detail: str, *, status: int) -> HttpResponse:
        """Answers with a page that says why not."""
        context = {**self.shell(), "title": title, "detail": detail}
        return render(self.request, "dashboard/refused.html", context, status=status)

    def show(self, *, status: int = 200, **context: Any) -> HttpResponse:
        """Answers with this page and what is added to its context: a form that was not right, above all."""
        return self.render_to_response(self.get_context_data(**context), status=status)

    def get_template_names(self) -> list[str]:
        """The page's template, or the part of it that htmx asks for."""
        htmx = getattr(self.request, "htmx", None)
        part = self.partials.get(htmx.target or "") if htmx and not htmx.history_restore_request else None
        return [part] if part else super().get_template_names()

    def shell(self) -> dict[str, Any]:
        """What the frame around a page needs."""
        assert self.access.role is not None
        assert isinstance(self.request.user, User)
        readable = READABLE[self.access.role]
        return {
            "tenant": self.tenant,
            "access": self.access,
            "now": self.now,
            "zone": self.tenant.time_zone,
            "title": self.title,
            "may_change": self.may_change,
            "places": navigation.links(tenant=self.tenant.slug, readable=readable, current=self.section),
            "memberships": memberships(user_id=self.request.user.pk),
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The frame's context and the page's own."""
        return {**self.shell(), **super().get_context_data(**kwargs)}


def _to_second_factor(request: HttpRequest) -> HttpResponse:
    messages.warning(
        request, "This tenant asks its members for a second factor. Set one up here; then go on."
    )
    return HttpResponseRedirect(reverse("mfa_activate_totp"))


class ConfirmPage(TenantPage):
    """Asks once before something is done, and says what will happen; POST does it.

    A page says the `question`, the `consequences` (sentences) and `button`, and has `post`. `back` is where no leads.
    """

    template_name = "dashboard/confirm.html"
    for_changing = True
    button: ClassVar[str] = "Confirm"
    destructive: ClassVar[bool] = True

    def question(self) -> str:
        """What is asked."""
        raise NotImplementedError

    def consequences(self) -> list[str]:
        """What will happen."""
        raise NotImplementedError

    def back(self) -> str:
        """Where no leads."""
        return self.url(self.section)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and all that follows from a yes."""
        return {
            **super().get_context_data(**kwargs),
            "question": self.question(),
            "consequences": self.consequences(),
            "button": self.button,
            "destructive": self.destructive,
            "back": self.back(),
        }
