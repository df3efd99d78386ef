"""Where the admin sends those who may not see it: to the sign-in of everybody, to a second factor, or away."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from noburn.runtime.requests import admin_path
from tenants.models import User
from tenants.services.second_factor import has_second_factor

NEEDED = "Operators need a second factor. Set one up here; then go back to the admin."


@never_cache
def operators_sign_in(request: HttpRequest) -> HttpResponse:
    """Leads to the page with the second factor and the count of attempts; a password that is sent here is not read."""
    wanted = request.GET.get(REDIRECT_FIELD_NAME, "")
    if not url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}):
        wanted = reverse("admin:index")
    if not request.user.is_authenticated:
        return redirect_to_login(wanted, settings.LOGIN_URL)
    if not request.user.is_staff:
        return render(request, "noburn/no_operator.html", status=403)
    return HttpResponseRedirect(wanted)


class OperatorsSecondFactor:
    """Middleware: lets no operator without a second factor see the admin, and leads them to where they set one up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(admin_path()):
            user = request.user
            if isinstance(user, User) and user.is_staff and not has_second_factor(user):
                messages.warning(request, NEEDED)
                return HttpResponseRedirect(reverse("mfa_activate_totp"))
        return self.get_response(request)
