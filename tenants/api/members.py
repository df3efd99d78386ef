"""/v1/members: the people of the tenant and their roles."""

from __future__ import annotations

from typing import ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Member, Role
from tenants.services.members import add_member, change_role, remove_member

EXAMPLE = {
    "id": "mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "email": "bob@example.com",
    "name": "Bob",
    "role": "viewer",
    "created_at": "2026-11-22T12:00:00Z",
}


class MemberOut(Representation):
    """A member."""

    id = WireIdField(ids.MEMBER)
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")
    role = serializers.ChoiceField(choices=Role.choices)
    created_at = TimeField()


class MemberIn(Strict):
    """A member to be added."""

    email = serializers.CharField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)


class MemberChanges(Strict):
    """What can change of a member."""

    role = serializers.ChoiceField(choices=Role.choices)


class MemberFilters(django_filters.FilterSet):
    """Filters of the list."""

    email = django_filters.CharFilter(field_name="user__email", lookup_expr="iexact", max_length=254)
    role = django_filters.ChoiceFilter(choices=Role.choices)

    class Meta:
        model = Member
        fields: ClassVar[list[str]] = ["email", "role"]


class Members(TenantView[Member]):
    """Members of the tenant."""

    topic = Topic.MEMBERS
    id_prefix = ids.MEMBER
    queryset = Member.objects.select_related("user")
    representation = MemberOut
    filterset_class = MemberFilters

    @extend_schema(
        operation_id="listMembers",
        summary="List members",
        responses=MemberOut(many=True),
        examples=[OpenApiExample("One member", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists the people who work at the tenant."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="addMember",
        summary="Add a member",
        request=MemberIn,
        responses={201: MemberOut},
        examples=[
            OpenApiExample(
                "A viewer", value={"email": "bob@example.com", "role": "viewer"}, request_only=True
            ),
            OpenApiExample("The member", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Adds a person by e-mail address. Only an owner adds another owner."""
        made = add_member(
            tenant_id=self.tenant_id,
            by_owner=self.access.is_owner,
            actor=self.actor,
            now=self.now,
            **self.read(MemberIn),
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getMember",
        summary="Get a member",
        responses=MemberOut,
        examples=[OpenApiExample("The member", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one member."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateMember",
        summary="Change a member's role",
        request=MemberChanges,
        responses=MemberOut,
        examples=[
            OpenApiExample("Another role", value={"role": "billing"}, request_only=True),
            OpenApiExample("The member", value={**EXAMPLE, "role": "billing"}, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Gives a member another role; the last owner keeps theirs."""
        member = self.wanted(pk)
        self.require_match(member)
        changed = change_role(
            tenant_id=self.tenant_id,
            member_id=member.pk,
            by_owner=self.access.is_owner,
            actor=self.actor,
            now=self.now,
            **self.read(MemberChanges),
        )
        return self.answer(changed)

    @extend_schema(operation_id="removeMember", summary="Remove a member", responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Ends a membership; what the person did stays in the audit log."""
        member = self.wanted(pk)
        self.require_match(member)
        remove_member(
            tenant_id=self.tenant_id,
            member_id=member.pk,
            by_owner=self.access.is_owner,
            actor=self.actor,
            now=self.now,
        )
        return Response(status=204)
