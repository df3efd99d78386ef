"""POST /stripe/webhooks/<endpoint>: where Stripe tells of events. Public; the signature says who sent it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from billing.services.stripe_inbox import (
    BODY_BYTES_MAX,
    BadEvent,
    BadSignature,
    EndpointNotFound,
    receive,
)
from noburn.kit.clock import utc_now
from noburn.kit.problems import problem
from noburn.kit.rest.handler import NOTHING_HERE, answer, request_id

SIGNATURE_CHARS_MAX = 2_000


@csrf_exempt
def receive_webhook(request: HttpRequest, endpoint: str) -> HttpResponse:
    """Stores an event and answers 204; whatever is not 2xx Stripe sends again, for three days."""
    if request.method != "POST":
        detail = f"{request.path} takes POST, not {request.method}."
        return answer(problem("method-not-allowed", detail, allowed=["POST"]), request_id())
    try:
        length = int(request.headers.get("Content-Length") or 0)
    except ValueError:
        length = BODY_BYTES_MAX + 1
    body = b"" if length > BODY_BYTES_MAX else request.read(BODY_BYTES_MAX + 1)
    if length > BODY_BYTES_MAX or len(body) > BODY_BYTES_MAX:
        detail = f"At most {BODY_BYTES_MAX} bytes of body are read here."
        return answer(problem("body-too-large", detail), request_id())
    signature = request.headers.get("Stripe-Signature", "")[:SIGNATURE_CHARS_MAX]
    try:
        receive(endpoint=endpoint, body=body, signature=signature, now=utc_now())
    except EndpointNotFound:
        return answer(problem("not-found", NOTHING_HERE), request_id())
    except BadSignature as error:
        return answer(problem("invalid-signature", f"The event is not taken: {error}."), request_id())
    except BadEvent as error:
        return answer(problem("invalid-request", f"The event is not taken: {error}."), request_id())
    return HttpResponse(status=204)
