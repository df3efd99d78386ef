"""/v1/leaked-keys: anybody reports an API key that they found."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from noburn.kit.clock import utc_now
from noburn.kit.rest.handler import request_id
from noburn.kit.rest.serializers import Strict
from tenants.services.leaks import WHERE_CHARS_MAX, report_leak
from tenants.services.rates import require_few_reports

EXAMPLE = {"api_key": "nb_live_…", "where": "https://github.com/acme/app/blob/main/.env"}


class LeakedKey(Strict):
    """A key, whole, and where it was found."""

    api_key = serializers.CharField(max_length=200, help_text="The whole key; a part of one is nobody's.")
    where = serializers.CharField(
        max_length=WHERE_CHARS_MAX,
        required=False,
        allow_blank=True,
        default="",
        help_text="Where it was found: the tenant's owners are told.",
    )


class Received(serializers.Serializer[Any]):
    """What everybody is answered."""

    status = serializers.ChoiceField(choices=["received"])


class LeakedKeys(APIView):
    """Takes reports of anybody, without a key."""

    authentication_classes = ()
    http_method_names = ["post"]

    @extend_schema(
        operation_id="reportLeakedKey",
        summary="Report a leaked API key",
        request=LeakedKey,
        responses={202: Received},
        auth=[],
        examples=[
            OpenApiExample("A key in a repository", value=EXAMPLE, request_only=True),
            OpenApiExample(
                "Received", value={"status": "received"}, response_only=True, status_codes=["202"]
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """Revokes the key at once, if it is one that lives, and tells the owners of its tenant. No API key is needed.

        The answer is the same whether there is such a key or not. A few reports a minute are taken from one address.
        """
        self.request_id = request_id()
        require_few_reports(request._request)
        # Read here once: Django bounds a body as it reads it whole, and a parser would not.
        _ = request._request.body
        reader = LeakedKey(data=request.data)
        reader.is_valid(raise_exception=True)
        report_leak(
            text=reader.validated_data["api_key"], where=reader.validated_data["where"], now=utc_now()
        )
        return Response(
            {"status": "received"},
            status=202,
            headers={"X-Request-Id": self.request_id, "Cache-Control": "no-store"},
        )
