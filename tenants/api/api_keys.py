"""/v1/api-keys: the tenant's credentials. A secret is in one answer, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import ApiKey, KeyScope, Project
from tenants.services.keys import OVERLAP_MAX, InvalidKey, IssuedKey, issue_key, revoke_key, rotate_key

EXAMPLE: dict[str, Any] = {
    "id": "key_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "name": "web backend",
    "shown": "nb_live_4fQx…9aZk",
    "project": "web",
    "scopes": ["preflight", "settle"],
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "replaced_by": None,
    "created_at": "2026-11-22T12:00:00Z",
}
WITH_SECRET = {**EXAMPLE, "secret": "nb_live_4fQx…", "expires_at": None}


class ApiKeyOut(Representation):
    """An API key without its secret."""

    id = WireIdField(ids.API_KEY)
    name = serializers.CharField()
    shown = serializers.SerializerMethodField(help_text="Enough of the secret to tell keys apart.")
    project = serializers.CharField(
        source="project.slug",
        default=None,
        allow_null=True,
        help_text="The one project it serves; null: all.",
    )
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=KeyScope.choices))
    expires_at = TimeField(allow_null=True)
    revoked_at = TimeField(allow_null=True)
    last_used_at = TimeField(allow_null=True, help_text="To within some minutes; settlements do not count.")
    replaced_by = WireIdField(ids.API_KEY, source="replaced_by_id", allow_null=True)
    created_at = TimeField()

    def get_shown(self, key: ApiKey) -> str:
        """The beginning and the end of the secret."""
        return f"{key.prefix}…{key.last4}"


class IssuedKeyOut(ApiKeyOut):
    """A new API key, with its secret."""

    secret = serializers.CharField(
        allow_null=True, help_text="Shown once. A repeat with the same Idempotency-Key has null here."
    )


class ApiKeyIn(Strict):
    """A key to be issued."""

    name = serializers.CharField(max_length=200)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=KeyScope.choices),
        default=[KeyScope.PREFLIGHT, KeyScope.SETTLE],
        max_length=len(KeyScope),
    )
    project = serializers.CharField(
        max_length=63, required=False, allow_null=True, help_text="The slug of the one project it serves."
    )
    expires_at = TimeField(required=False, allow_null=True)


class Rotation(Strict):
    """How a key is replaced."""

    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(OVERLAP_MAX.total_seconds()),
        default=86_400,
        help_text="For how long both keys work.",
    )


class ApiKeyFilters(django_filters.FilterSet):
    """Filters of the list."""

    name = django_filters.CharFilter(lookup_expr="icontains", max_length=200)
    project = django_filters.CharFilter(field_name="project__slug", max_length=63)
    live = django_filters.BooleanFilter(method="living", help_text="Neither revoked nor expired.")

    class Meta:
        model = ApiKey
        fields: ClassVar[list[str]] = ["name", "project", "live"]

    def living(self, queryset: QuerySet[ApiKey], _name: str, value: bool) -> QuerySet[ApiKey]:
        """Keys that work, or those that do not any more."""
        dead = Q(revoked_at__isnull=False) | Q(expires_at__lte=utc_now())
        return queryset.exclude(dead) if value else queryset.filter(dead)


class ApiKeys(TenantView[ApiKey]):
    """API keys of the tenant."""

    topic = Topic.API_KEYS
    id_prefix = ids.API_KEY
    observed = frozenset({"last_used_at"})
    queryset = ApiKey.objects.select_related("project")
    representation = ApiKeyOut
    filterset_class = ApiKeyFilters

    @extend_schema(
        operation_id="listApiKeys",
        summary="List API keys",
        responses=ApiKeyOut(many=True),
        examples=[OpenApiExample("One key", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists keys, revoked and expired ones included."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="issueApiKey",
        summary="Issue an API key",
        request=ApiKeyIn,
        responses={201: IssuedKeyOut},
        examples=[
            OpenApiExample(
                "A key for calls",
                value={"name": "web backend", "scopes": ["preflight", "settle"]},
                request_only=True,
            ),
            OpenApiExample("The key and its secret", value=WITH_SECRET, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Issues a key; its secret is in this answer alone."""
        wanted = self.read(ApiKeyIn)
        slug, project_id = wanted.pop("project", None), None
        if slug:
            project = Project.objects.filter(tenant_id=self.tenant_id, slug=slug).first()
            if project is None:
                raise InvalidKey([FieldError("project", "must be the slug of a project of the tenant")])
            project_id = project.pk
        issued = issue_key(
            tenant_id=self.tenant_id, project_id=project_id, actor=self.actor, now=self.now, **wanted
        )
        return self._with_secret(issued)

    @extend_schema(
        operation_id="getApiKey",
        summary="Get an API key",
        responses=ApiKeyOut,
        examples=[OpenApiExample("The key", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one key, without its secret."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="revokeApiKey",
        summary="Revoke an API key",
        responses={200: ApiKeyOut},
        examples=[
            OpenApiExample(
                "The key", value={**EXAMPLE, "revoked_at": "2026-11-22T13:00:00Z"}, response_only=True
            )
        ],
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Revokes a key from the next request on; what it placed may still settle."""
        key = self.wanted(pk)
        self.require_match(key)
        return self.answer(
            revoke_key(tenant_id=self.tenant_id, key_id=key.pk, actor=self.actor, now=self.now)
        )

    @extend_schema(
        operation_id="rotateApiKey",
        summary="Rotate an API key",
        request=Rotation,
        responses={201: IssuedKeyOut},
        examples=[
            OpenApiExample("A day for the change", value={"overlap_seconds": 86400}, request_only=True),
            OpenApiExample("The new key and its secret", value=WITH_SECRET, response_only=True),
        ],
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """Issues the successor of a key, which itself works until the overlap is over."""
        key = self.wanted(pk)
        overlap = timedelta(seconds=self.read(Rotation)["overlap_seconds"])
        issued = rotate_key(
            tenant_id=self.tenant_id, key_id=key.pk, overlap=overlap, actor=self.actor, now=self.now
        )
        return self._with_secret(issued)

    def _with_secret(self, issued: IssuedKey) -> Response:
        key = self.wanted(ids.encode(ids.API_KEY, issued.key.pk))
        response = self.answer(key, 201)
        # What is kept for a repeat of this request never holds the secret.
        response.kept_body = {**response.data, "secret": None}  # type: ignore[attr-defined]
        response.data = {**response.data, "secret": issued.secret}
        return response
