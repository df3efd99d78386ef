"""/embed/balance: a customer's own balance, in a frame of the tenant's site. A token opens it and nothing else does."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import require_safe

from billing.domain.balance_tokens import BadToken, Expired
from billing.services.balances import Balance, balance_of, read_balance_token
from budgets.domain.policy import Metric, WindowKind
from budgets.queries.own_standings import OwnStanding
from noburn.dashboard.wording import count, usd
from noburn.kit.clock import utc_now
from tenants.services.customers import CustomerNotFound

THEMES: Final = ("light", "dark")
_WINDOWS: Final = {
    WindowKind.HOUR: "This hour",
    WindowKind.DAY: "Today",
    WindowKind.WEEK: "This week",
    WindowKind.MONTH: "This month",
    WindowKind.QUARTER: "This quarter",
    WindowKind.TOTAL: "In all",
}


@require_safe
@xframe_options_exempt
def show_balance(request: HttpRequest) -> HttpResponse:
    """What the token of the address shows, or why it shows nothing. No cookie is read and none is set."""
    now, origins = utc_now(), tuple[str, ...]()
    try:
        claims = read_balance_token(token=request.GET.get("token", ""), now=now)
        origins = claims.origins
        context, status = _shown(balance_of(claims=claims, now=now), now), 200
    except Expired as over:
        origins, context, status = over.claims.origins, {"refused": "expired"}, 410
    except (BadToken, CustomerNotFound):
        context, status = {"refused": "unknown"}, 403
    theme = request.GET.get("theme", "")
    response = render(
        request, "embed/balance.html", {**context, "theme": theme if theme in THEMES else ""}, status=status
    )
    frames = " ".join(origins) or "'none'"
    response["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        f"base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
    )
    # The address holds the token: it goes to no other site, no cache and no index.
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-store"
    response["X-Robots-Tag"] = "noindex"
    return response


def _shown(balance: Balance, now: datetime) -> dict[str, Any]:
    wallet = balance.wallet_nano
    return {
        "balance": balance,
        "credit": usd(abs(wallet)) if wallet is not None else None,
        "owes": wallet is not None and wallet < 0,
        "budgets": [_budget(standing) for standing in balance.budgets],
        "zone": balance.time_zone,
        "now": now,
    }


def _budget(standing: OwnStanding) -> dict[str, Any]:
    say = usd if standing.metric is Metric.USD else count
    unit = "" if standing.metric is Metric.USD else f" {standing.metric.value}"
    used = standing.limit - standing.remaining
    return {
        "window": _WINDOWS[standing.window],
        "remaining": say(standing.remaining) + unit,
        "limit": say(standing.limit) + unit,
        "percent": used * 100 // standing.limit if standing.limit else 100,
        "resets_at": standing.resets_at,
        "empty": standing.remaining == 0,
    }
