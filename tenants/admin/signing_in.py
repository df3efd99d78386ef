"""Where the admin sends those who may not see it: to the sign-in of everybody, or away."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache


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
