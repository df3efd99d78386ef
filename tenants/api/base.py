"""The base of every view of the management API: who asks, for which tenant, in which transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, cast
from uuid import UUID

from django.db import transaction
from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import FieldError, Missing, ProblemError, problem
from noburn.kit.rest.etags import etag_of, is_unchanged, require_match
from noburn.kit.rest.filters import Filters, require_known
from noburn.kit.rest.handler import request_id
from noburn.kit.rest.pages import KeysetPages
from noburn.kit.rest.serializers import read_fields
from noburn.kit.tenancy import act_for
from tenants.domain.roles import Topic
from tenants.services import idempotency
from tenants.services.access import Access
from tenants.services.rates import require_rate
from tenants.services.tenants import lock_tenant

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_CHARS_MAX = 255

M = TypeVar("M", bound=Model)


class TenantView(GenericViewSet[M], Generic[M]):
    """A view of one tenant's things.

    A view names its `topic`, which decides who may read and write (tenants.domain.roles). Every unsafe method
    runs in one transaction under the tenant's lock: what it checks still holds when it writes, a failure leaves
    nothing behind, and a POST repeated with its Idempotency-Key is answered as before.
    """

    topic: ClassVar[Topic]
    id_prefix: ClassVar[str] = ""
    """The prefix of the ids in this view's paths."""
    observed: ClassVar[frozenset[str]] = frozenset()
    """Fields of the representation that nobody sets: If-Match does not look at them."""

    representation: ClassVar[type[BaseSerializer[Any]]]
    """The serializer of an answer; fields of it may be chosen with `fields`."""

    # OPTIONS would describe Django REST framework's own guess of the view; the API document says what is true.
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    lookup_value_regex = "[^/]+"
    pagination_class = KeysetPages
    filter_backends = (Filters,)

    now: datetime
    request_id: str
    rate: Mapping[str, str] = MappingProxyType({})
    """The headers that say how many requests are left."""

    @property
    def access(self) -> Access:
        """Who asks."""
        return cast(Access, self.request.auth)

    @property
    def tenant_id(self) -> UUID:
        """For which tenant."""
        return self.access.tenant_id

    @property
    def actor(self) -> str:
        """Who asks, as the audit log names them."""
        return self.access.actor

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Checks who asks, and puts an unsafe method's handler into its transaction."""
        self.now, self.request_id = utc_now(), request_id()
        super().initial(request, *args, **kwargs)
        if request.auth is None:
            raise ProblemError(
                problem("unauthorized", "Send an API key as `Authorization: Bearer nb_live_…`.")
            )
        # From here on the database shows this tenant's rows alone, whatever a query forgets.
        act_for(self.tenant_id)
        self.rate = require_rate(self.access)
        name = (request.method or "").lower()
        handler = getattr(self, name, None)
        if request.method in SAFE:
            self.access.require_read(self.topic)
        elif handler is not None:
            self.access.require_write(self.topic)
            # Looked up by name on this view, which serves this one request.
            setattr(self, name, self._changing(handler))

    def _changing(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        def change(request: Request, *args: Any, **kwargs: Any) -> Response:
            key, digest = self._idempotency_key(request), b""
            if key:
                digest = idempotency.digest_of(
                    method="POST",
                    path=request.get_full_path(),
                    actor=self.actor,
                    body=request._request.body,
                )
            with transaction.atomic():
                lock_tenant(tenant_id=self.tenant_id)
                self._ask_again(request)
                if key:
                    earlier = idempotency.earlier_answer(
                        tenant_id=self.tenant_id, key=key, digest=digest, now=self.now
                    )
                    if earlier is not None:
                        headers = {**earlier.headers, "Idempotency-Replayed": "true"}
                        return Response(earlier.body, status=earlier.status, headers=headers)
                response = handler(request, *args, **kwargs)
                if key:
                    idempotency.keep_answer(
                        tenant_id=self.tenant_id,
                        key=key,
                        digest=digest,
                        answer=idempotency.Answered(
                            status=response.status_code,
                            body=getattr(response, "kept_body", response.data),
                            headers={
                                name: response[name]
                                for name in ("ETag", "Location")
                                if response.has_header(name)
                            },
                        ),
                        now=self.now,
                    )
            return response

        return change

    def _ask_again(self, request: Request) -> None:
        """Checks under the lock who asks: their rights may have been taken while the request waited for it."""
        for authenticator in self.get_authenticators():
            found = authenticator.authenticate(request)
            if found is not None:
                request.auth = found[1]
                break
        self.access.require_write(self.topic)

    def _idempotency_key(self, request: Request) -> str:
        # Read here once: Django bounds a body as it reads it whole, and a parser would not.
        _ = request._request.body
        if request.method != "POST":
            return ""
        key = request.headers.get("Idempotency-Key", "").strip()
        if not key:
            raise ProblemError(
                problem("idempotency-key-missing", "Every POST needs an Idempotency-Key header.")
            )
        if len(key) > KEY_CHARS_MAX or not key.isprintable():
            detail = f"must be at most {KEY_CHARS_MAX} printable characters"
            raise ProblemError(
                problem(
                    "invalid-request", "Some fields are not valid.", [FieldError("Idempotency-Key", detail)]
                )
            )
        return key

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Names the request in the answer."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.setdefault("X-Request-Id", getattr(self, "request_id", request_id()))
        answer.setdefault("Cache-Control", "no-store")
        for name, value in self.rate.items():
            answer.setdefault(name, value)
        return answer

    # --- what views use ---------------------------------------------------------------------------------

    def rows(self) -> QuerySet[M]:
        """The tenant's rows of this view's model: the one place where a view's queryset begins."""
        return super().get_queryset().filter(tenant_id=self.tenant_id)

    def get_queryset(self) -> QuerySet[M]:
        """Every list and look-up goes through `rows`."""
        if getattr(self, "swagger_fake_view", False):  # The API document is made without a request.
            return super().get_queryset().none()
        return self.rows()

    def path_id(self, text: str, prefix: str | None = None) -> UUID:
        """Reads an id of the path; what is no id is not there either. Raises Missing."""
        try:
            return ids.decode(prefix or self.id_prefix, text)
        except ids.BadId:
            raise Missing(text) from None

    def wanted(self, pk: str) -> M:
        """Returns the row that the path names. Raises Missing."""
        found = self.rows().filter(pk=self.path_id(pk)).first()
        if found is None:
            raise Missing(pk)
        return found

    def read(self, serializer: type[BaseSerializer[Any]], *, data: Any = None) -> dict[str, Any]:
        """Returns the validated body (or `data`). Raises ValidationError with every error."""
        reader = serializer(
            data=self.request.data if data is None else data, context=self.get_serializer_context()
        )
        reader.is_valid(raise_exception=True)
        return dict(reader.validated_data)

    def shown(self, row: Any, *, serializer: type[BaseSerializer[Any]] | None = None) -> dict[str, Any]:
        """Returns a row's whole representation."""
        return dict((serializer or self.representation)(row, context=self.get_serializer_context()).data)

    def answer(self, row: Any, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
        """Answers with one row and its ETag, or with 304 where the caller has it already."""
        whole = self.shown(row)
        etag = etag_of(whole, self.observed)
        if self.request.method in SAFE:
            require_known(self.request, {"fields", "format"})
            if is_unchanged(self.request, etag):
                return Response(status=304, headers={"ETag": etag})
        chosen = read_fields(self.request.query_params, self.representation)
        body = whole if chosen is None else {name: value for name, value in whole.items() if name in chosen}
        return Response(body, status=status, headers={"ETag": etag, **(headers or {})})

    def require_match(self, row: Any) -> None:
        """Raises a precondition-failed problem unless If-Match, where given, names the row's present state."""
        require_match(self.request, etag_of(self.shown(row), self.observed))

    def page(self, queryset: QuerySet[Any]) -> Response:
        """Answers with one page of rows, filtered."""
        rows = self.paginate_queryset(self.filter_queryset(queryset))
        chosen = read_fields(self.request.query_params, self.representation)
        context = {**self.get_serializer_context(), "fields": chosen}
        return self.get_paginated_response(self.representation(rows, many=True, context=context).data)
