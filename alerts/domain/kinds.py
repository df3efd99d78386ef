"""The kinds of alert: what each is called, how grave it is, who may hear of it, and how its text is made.

A kind's text is made from the alert's details alone, so that a message sent again says the same. Details are
JSON without content of calls; amounts in them are decimal strings. A detail that is missing shows as
`unknown`: an alert with a gap is worth more than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

Details = Mapping[str, Any]

LINE_CHARACTERS_MAX: Final = 300


class Severity(StrEnum):
    """How grave an alert is: to know, to look at, to act on."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Text:
    """What people read: one line, then some."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of alert. `always` reaches every destination, whatever kinds it asked for."""

    name: str
    title: str
    severity: Severity
    text: Callable[[Details], Text]
    grave: Callable[[Details], bool] = lambda _: False
    always: bool = False
    chosen: bool = True

    def severity_of(self, details: Details) -> Severity:
        """The severity of one alert of the kind."""
        return Severity.CRITICAL if self.grave(details) else self.severity


class UnknownKind(LookupError):
    """No kind of alert has this name."""


def _say(details: Details, name: str) -> str:
    value = details.get(name)
    if value is None or value == "":
        return "unknown"
    return _plain(value)


def _plain(value: object) -> str:
    """One line of bounded length, whatever it was."""
    return " ".join(str(value).split())[:LINE_CHARACTERS_MAX]


def _lines(details: Details, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{title}: {_say(details, name)}" for title, name in pairs if details.get(name) is not None)


def _amount(details: Details, name: str) -> str:
    value = _say(details, name)
    return f"${value}" if details.get("metric", "usd") == "usd" else f"{value} {_say(details, 'metric')}"


def _threshold(details: Details) -> Text:
    whose = _say(details, "subject")
    by = f" by {whose}" if details.get("scope", "tenant") != "tenant" else ""
    return Text(
        f"{_say(details, 'percent')} % of {_say(details, 'budget_name')} is spent{by}",
        (
            f"Spent: {_amount(details, 'spent')} of {_amount(details, 'limit')}",
            f"Counts: {_say(details, 'scope')} {whose}",
            f"Window: {_say(details, 'window')}, since {_say(details, 'starts_at')}",
            f"Resets: {_say(details, 'resets_at') if details.get('resets_at') else 'never'}",
            *(
                ("This budget only warns: calls go on.",)
                if details.get("action") == "warn"
                else ("What does not fit any more is refused.",)
                if _reached(details)
                else ()
            ),
        ),
    )


def _reached(details: Details) -> bool:
    percent = details.get("percent")
    return isinstance(percent, int) and percent >= 100


def _presumed(details: Details) -> Text:
    return Text(
        "Calls were never settled and are presumed spent",
        (
            f"Presumed today so far: ${_say(details, 'amount_usd')}",
            "A client did not say what its calls used before their holds expired. The amounts count against "
            "budgets until a late settlement corrects them.",
        ),
    )


def _drift(details: Details) -> Text:
    return Text(
        f"Figures differ from their sources: {_say(details, 'differences')}",
        (
            *_lines(details, (("Tenant", "tenant"), ("First", "first"))),
            "Run `manage.py verify` and look into what it lists.",
        ),
    )


def _epoch_opened(details: Details) -> Text:
    return Text(
        "Redis lost its counters; new epochs are open",
        (
            *_lines(
                details,
                (
                    ("Shards", "shards"),
                    ("Since", "since"),
                    ("Budgets with stranded authority", "stranded_counters"),
                    ("Stranded USD", "stranded_usd"),
                ),
            ),
            "What the lost counters may have spent stays locked until calls are settled, the window ends, or an "
            "operator writes it off. Nothing was overspent.",
        ),
    )


def _generic(title: str) -> Callable[[Details], Text]:
    """The text of kinds whose details are the raiser's own: each named, in order."""

    def text(details: Details) -> Text:
        lines = tuple(
            f"{_plain(name).replace('_', ' ').capitalize()}: {_say(details, name)}"
            for name in sorted(details)
        )
        return Text(title, lines[:20])

    return text


def _plan_requests(details: Details) -> Text:
    share, plan = _say(details, "percent"), _say(details, "plan")
    title = f"{share} % of the requests of noburn's plan {plan} are used"
    if details.get("refused") == "yes":
        title = f"Calls are refused: the requests of noburn's plan {plan} are used up"
    pairs = (("Requests", "requests"), ("Included", "included"), ("Refused until", "refused_until"))
    return Text(title, _lines(details, pairs))


def _destination_disabled(details: Details) -> Text:
    return Text(
        f"Alerts are no longer sent to {_say(details, 'destination')}",
        (
            f"Because: {_say(details, 'reason')}",
            "Correct it and switch it on again; missed ones can be replayed.",
        ),
    )


def _api_key_leaked(details: Details) -> Text:
    return Text(
        f"API key {_say(details, 'key')} leaked and was revoked",
        (
            *_lines(details, (("Found", "found"),)),
            "Issue another one, and look into what the key did: the decisions and the ledger name it.",
        ),
    )


def _ping(details: Details) -> Text:
    return Text("This is a test", (f"Asked for by {_say(details, 'actor')}. Alerts will arrive here.",))


_ALL: Final = (
    Kind("threshold", "A budget's threshold was passed", Severity.WARNING, _threshold, grave=_reached),
    Kind("presumed_spending", "Spending was presumed", Severity.WARNING, _presumed),
    Kind("drift", "Figures differ from their sources", Severity.CRITICAL, _drift),
    Kind("epoch_opened", "Redis lost its counters", Severity.WARNING, _epoch_opened),
    Kind("guard_tripped", "A guard stopped calls", Severity.CRITICAL, _generic("A guard stopped calls")),
    Kind("wallet_low", "A wallet runs low", Severity.WARNING, _generic("A wallet runs low")),
    Kind("top_up_failed", "A top-up failed", Severity.WARNING, _generic("A top-up failed")),
    Kind(
        "push_failed", "Usage could not be pushed", Severity.CRITICAL, _generic("Usage could not be pushed")
    ),
    Kind(
        "customer_delinquent",
        "A customer's payment failed",
        Severity.WARNING,
        _generic("A customer's payment failed"),
    ),
    Kind(
        "plan_requests",
        "Requests of noburn's own plan",
        Severity.WARNING,
        _plan_requests,
        grave=lambda details: details.get("refused") == "yes",
    ),
    Kind(
        "plan_payment",
        "Payment of noburn's own plan",
        Severity.CRITICAL,
        _generic("noburn's own plan was not paid"),
    ),
    Kind(
        "destination_disabled",
        "A destination was switched off",
        Severity.WARNING,
        _destination_disabled,
        always=True,
        chosen=False,
    ),
    Kind(
        "api_key_leaked",
        "An API key leaked and was revoked",
        Severity.CRITICAL,
        _api_key_leaked,
        always=True,
        chosen=False,
    ),
    Kind("ping", "A test", Severity.INFO, _ping, chosen=False),
)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every kind by its name."""

CHOICES: Final = tuple(kind.name for kind in _ALL if kind.chosen)
"""The kinds that a destination may ask for."""

ALWAYS: Final = tuple(kind.name for kind in _ALL if kind.always)
"""The kinds that reach every destination."""


def kind_of(name: str) -> Kind:
    """Returns a kind. Raises UnknownKind."""
    try:
        return KINDS[name]
    except KeyError:
        raise UnknownKind(name) from None
