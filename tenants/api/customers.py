"""/v1/customers: the tenant's end customers, one by one and in batches."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit import ids
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict, batch_of
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Customer
from tenants.queries.customers import named_like
from tenants.services.customers import CustomerItem, InvalidCustomer, save_customers

EXAMPLE = {
    "id": "cus_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "external_id": "acme",
    "name": "Acme Ltd",
    "suspended_at": None,
    "created_at": "2026-11-22T12:00:00Z",
}


class CustomerOut(Representation):
    """A customer."""

    id = WireIdField(ids.CUSTOMER)
    external_id = serializers.CharField(
        help_text="Your own id of it: what pre-flights send as `subject.customer`."
    )
    name = serializers.CharField()
    suspended_at = TimeField(
        allow_null=True, help_text="Since when every call is refused; null: calls are served."
    )
    created_at = TimeField()


class CustomerIn(Strict):
    """A customer to be made; in a batch, one to be made or changed."""

    external_id = serializers.CharField(max_length=200, trim_whitespace=False)
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    suspended = serializers.BooleanField(required=False)


class CustomerChanges(Strict):
    """What can change of a customer."""

    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    suspended = serializers.BooleanField(
        required=False, help_text="Refuses every further call, or serves again."
    )


class CustomersIn(Strict):
    """A batch."""

    items = batch_of(CustomerIn)


class SavedCustomer(serializers.Serializer[Any]):
    """What became of one item of a batch."""

    outcome = serializers.ChoiceField(choices=["created", "updated", "unchanged"])
    customer = CustomerOut()


class SavedCustomers(serializers.Serializer[Any]):
    """What became of a batch, in its order."""

    items = SavedCustomer(many=True)


class CustomerFilters(django_filters.FilterSet):
    """Filters of the list."""

    external_id = django_filters.CharFilter(max_length=200)
    search = django_filters.CharFilter(
        method="found", max_length=200, help_text="Part of the id or the name."
    )
    suspended = django_filters.BooleanFilter(field_name="suspended_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Customer
        fields: ClassVar[list[str]] = ["external_id", "search", "suspended"]

    def found(self, queryset: QuerySet[Customer], _name: str, value: str) -> QuerySet[Customer]:
        """Rows whose id or name holds the text."""
        return queryset.filter(named_like(self.request.auth.tenant_id, value))


class Customers(TenantView[Customer]):
    """End customers of the tenant."""

    topic = Topic.CUSTOMERS
    id_prefix = ids.CUSTOMER
    queryset = Customer.objects.all()
    representation = CustomerOut
    filterset_class = CustomerFilters

    @extend_schema(
        operation_id="listCustomers",
        summary="List customers",
        responses=CustomerOut(many=True),
        examples=[OpenApiExample("One customer", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists customers. A customer is also made by the first call that names it."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createCustomer",
        summary="Create a customer",
        request=CustomerIn,
        responses={201: CustomerOut},
        examples=[
            OpenApiExample(
                "A customer", value={"external_id": "acme", "name": "Acme Ltd"}, request_only=True
            ),
            OpenApiExample("The customer", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates a customer; one that exists is an error here, and is changed by a batch or a PATCH."""
        wanted = self.read(CustomerIn)
        if self.rows().filter(external_id=wanted["external_id"]).exists():
            raise InvalidCustomer([FieldError("external_id", "is taken by another customer")])
        return self.answer(self._save(wanted), 201)

    @extend_schema(
        operation_id="getCustomer",
        summary="Get a customer",
        responses=CustomerOut,
        examples=[OpenApiExample("The customer", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one customer."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateCustomer",
        summary="Change, suspend or resume a customer",
        request=CustomerChanges,
        responses=CustomerOut,
        examples=[
            OpenApiExample("Suspend it", value={"suspended": True}, request_only=True),
            OpenApiExample(
                "The customer", value={**EXAMPLE, "suspended_at": "2026-11-22T13:00:00Z"}, response_only=True
            ),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes a customer. A suspension holds from the next call on; calls under way may settle."""
        customer = self.wanted(pk)
        self.require_match(customer)
        changes = self.read(CustomerChanges)
        if changes:
            customer = self._save({**changes, "external_id": customer.external_id})
        return self.answer(customer)

    @extend_schema(
        operation_id="saveCustomers",
        summary="Create or change many customers",
        request=CustomersIn,
        responses=SavedCustomers,
        examples=[
            OpenApiExample(
                "Two customers",
                value={
                    "items": [
                        {"external_id": "acme", "name": "Acme Ltd"},
                        {"external_id": "globex", "suspended": True},
                    ]
                },
                request_only=True,
            ),
            OpenApiExample(
                "What became of them",
                value={"items": [{"outcome": "created", "customer": EXAMPLE}]},
                response_only=True,
            ),
        ],
    )
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request) -> Response:
        """Saves up to 1,000 customers by `external_id`, all or none; what is wrong is named by item."""
        items = [CustomerItem(**item) for item in self.read(CustomersIn)["items"]]
        saved = save_customers(tenant_id=self.tenant_id, items=items, actor=self.actor, now=self.now)
        return Response(
            {"items": [{"outcome": outcome, "customer": self.shown(row)} for row, outcome in saved]}
        )

    def _save(self, wanted: dict[str, Any]) -> Customer:
        """Saves one customer by the same service as a batch, and names its errors as those of one."""
        try:
            saved = save_customers(
                tenant_id=self.tenant_id, items=[CustomerItem(**wanted)], actor=self.actor, now=self.now
            )
        except InvalidCustomer as error:
            alone = [FieldError(e.field.removeprefix("items[0]."), e.message) for e in error.errors]
            raise InvalidCustomer(alone) from None
        return saved[0][0]
