"""Requests and answers of the data plane as they look on the wire; each is sent to a gateway by a test."""

from __future__ import annotations

from typing import Any, Final

TOKEN: Final = "nba1.k1.lMSe3AAS…bHsa…"  # noqa: S105 (it opens nothing)
BUDGET_ID: Final = "bud_01m8r2q0f7c5k9s0m3w7x4y1z2"
HOLD_ID: Final = "hold_32w6shh8q1c5k9s0m3w7x4y1z2"

MONTH: Final[dict[str, Any]] = {
    "id": BUDGET_ID,
    "scope": "customer",
    "subject": "acme",
    "window": "month",
    "resets_at": "2026-12-01T00:00:00.000Z",
    "limit_usd": "10",
    "remaining_usd": "9.99952",
}
DAY_OF_TOKENS: Final[dict[str, Any]] = {
    "id": "bud_01m8r2q0f7d6m2t4n8v1y5z3a7",
    "scope": "user",
    "subject": "u1",
    "window": "day",
    "resets_at": "2026-11-23T00:00:00.000Z",
    "limit_tokens": 50_000,
    "remaining_tokens": 48_300,
}
CALL: Final[dict[str, Any]] = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "input_tokens": 1200,
    "max_output_tokens": 500,
    "subject": {"customer": "acme", "user": "u1"},
    "tags": {"feature": "chat"},
}

PREFLIGHT: Final[dict[str, dict[str, Any]]] = {
    "call": {"summary": "A call for a customer's user", "value": CALL},
    "tool": {
        "summary": "A tool without a price, with an estimate of your own",
        "value": {
            "model": "pdf-to-text",
            "cost_usd": "0.02",
            "subject": {"customer": "acme"},
            "ttl_seconds": 300,
        },
    },
    "dry_run": {
        "summary": "What would be decided, with nothing held",
        "value": {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500, "dry_run": True},
    },
    "wait": {
        "summary": "Wait for holds in flight, then make the answer shorter rather than refuse",
        "value": {**CALL, "wait_ms": 2000, "fit": True},
    },
}

_REFUSED: Final[dict[str, Any]] = {
    "decision": "deny",
    "estimate_usd": "0.00048",
    "fits_max_output_tokens": 200,
    "budget": {**MONTH, "limit_usd": "0.0003", "remaining_usd": "0.0003"},
    "alternatives": [{"model": "gpt-4.1-nano", "estimate_usd": "0.00032"}],
    "warnings": [],
}
DECISIONS: Final[dict[str, dict[str, Any]]] = {
    "allow": {
        "summary": "It may be made",
        "value": {
            "decision": "allow",
            "authorization": TOKEN,
            "hold": {"id": HOLD_ID, "amount_usd": "0.00048", "expires_at": "2026-11-22T21:55:53.146Z"},
            "model": "gpt-4o-mini",
            "max_output_tokens": 500,
            "budgets": [MONTH],
            "warnings": [],
        },
    },
    "dry_run": {
        "summary": "It would be allowed",
        "value": {
            "decision": "allow",
            "estimate_usd": "0.00048",
            "model": "gpt-4o-mini",
            "max_output_tokens": 500,
            "budgets": [],
            "warnings": [],
        },
    },
    "budget_exceeded": {
        "summary": "It does not fit beside what is spent",
        "value": {**_REFUSED, "reason": "budget_exceeded"},
    },
    "budget_busy": {
        "summary": "It would fit, but for holds in flight",
        "value": {
            **_REFUSED,
            "reason": "budget_busy",
            "fits_max_output_tokens": 500,
            "budget": {**MONTH, "limit_usd": "0.0006", "remaining_usd": "0.00012"},
            "alternatives": [],
            "retry_after_ms": 100,
        },
    },
    "price_unknown": {
        "summary": "Nobody knows what it costs",
        "value": {
            "decision": "deny",
            "reason": "price_unknown",
            "detail": "no price for model 'gpt-77'; name a known one, send cost_usd, or let unknown models be priced "
            "at the dearest",
        },
    },
    "customer_suspended": {
        "summary": "Its customer is suspended",
        "value": {
            "decision": "deny",
            "reason": "customer_suspended",
            "detail": "customer 'acme' is suspended",
        },
    },
}

SETTLE: Final[dict[str, dict[str, Any]]] = {
    "usage": {
        "summary": "What the provider counted",
        "value": {
            "authorization": TOKEN,
            "usage": {"input_tokens": 980, "output_tokens": 290, "cache_read_tokens": 512},
            "model": "gpt-4o-mini-2024-07-18",
            "latency_ms": 840,
        },
    },
    "cost": {
        "summary": "A cost of your own, for a tool without a price",
        "value": {"authorization": TOKEN, "cost_usd": "0.0175"},
    },
    "unseen": {
        "summary": "The connection was lost: nobody knows what was used",
        "value": {"authorization": TOKEN, "usage": None, "outcome": "error"},
    },
}
_SETTLED: Final[dict[str, Any]] = {
    "state": "settled",
    "cost_usd": "0.0002826",
    "released_usd": "0.0001974",
    "overrun_usd": "0",
    "replayed": False,
    "late": False,
    "warnings": [],
}
RESOLUTIONS: Final[dict[str, dict[str, Any]]] = {
    "settled": {"summary": "It cost less than was held", "value": _SETTLED},
    "presumed": {
        "summary": "All of the hold is presumed spent",
        "value": {**_SETTLED, "state": "presumed", "cost_usd": "0.00048", "released_usd": "0"},
    },
}
VOIDED: Final[dict[str, dict[str, Any]]] = {
    "voided": {
        "summary": "The whole hold is free again",
        "value": {**_SETTLED, "state": "voided", "cost_usd": "0", "released_usd": "0.00048"},
    }
}
BATCH: Final[dict[str, dict[str, Any]]] = {
    "two": {
        "summary": "One that is settled, and one whose authorization was cut short",
        "value": {
            "settlements": [SETTLE["usage"]["value"], {"authorization": "nba1.k1.lMSe", "usage": None}],
        },
    }
}
BATCH_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "two": {
        "summary": "One that is settled, and one whose authorization was cut short",
        "value": {
            "results": [
                {"status": 200, **_SETTLED},
                {
                    "status": 400,
                    "problem": {
                        "type": "https://noburn.example/docs/problems/invalid-authorization",
                        "title": "The authorization is not one of ours",
                        "status": 400,
                        "detail": "authorization: no authorization of this tenant: it was altered, cut off, or "
                        "made for somebody else.",
                        "instance": "urn:request:5925b37686d9071a",
                    },
                },
            ],
            "warnings": [],
        },
    }
}
VOID: Final[dict[str, dict[str, Any]]] = {
    "void": {"summary": "A call that never reached the provider", "value": {"authorization": TOKEN}}
}
EXTEND: Final[dict[str, dict[str, Any]]] = {
    "longer": {
        "summary": "Five minutes from now",
        "value": {"authorization": TOKEN, "ttl_seconds": 300},
    }
}
EXTENDED: Final[dict[str, dict[str, Any]]] = {
    "longer": {
        "summary": "The hold lives longer",
        "value": {"authorization": TOKEN, "hold": {"id": HOLD_ID, "expires_at": "2026-11-22T21:59:50.497Z"}},
    }
}
REMAINING: Final[dict[str, dict[str, Any]]] = {
    "customer": {"summary": "A customer's user", "value": {"budgets": [DAY_OF_TOKENS, MONTH]}}
}
PRICES: Final[dict[str, dict[str, Any]]] = {
    "openai": {
        "summary": "One model of a provider",
        "value": {
            "prices": [
                {
                    "provider": "openai",
                    "model": "gpt-4o-mini",
                    "variant": "standard",
                    "price_id": "3448",
                    "override": None,
                    "currency": "USD",
                    "effective_from": "2024-07-18T00:00:00+00:00",
                    "effective_to": None,
                    "daily": None,
                    "deprecated": False,
                    "context_window": 128_000,
                    "prices": {
                        "input_tokens": {"usd_per_million_tokens": "0.15"},
                        "output_tokens": {"usd_per_million_tokens": "0.6"},
                        "web_searches": {"usd_per_unit": "0.01"},
                    },
                }
            ]
        },
    }
}
ALIVE: Final[dict[str, dict[str, Any]]] = {"alive": {"value": {"status": "ok"}}}
READY: Final[dict[str, dict[str, Any]]] = {"ready": {"value": {"status": "ready"}}}
WAITING: Final[dict[str, dict[str, Any]]] = {
    "waiting": {
        "value": {
            "status": "waiting",
            "missing": ["no epoch is open: the epoch controller is not running yet"],
        }
    }
}
