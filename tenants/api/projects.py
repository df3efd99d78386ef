"""/v1/projects: the tenant's applications. The pattern that other views follow."""

from __future__ import annotations

from typing import Any, ClassVar

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
from tenants.models import Project
from tenants.services.projects import create_project, rename_project

EXAMPLE = {
    "id": "prj_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "slug": "web",
    "name": "Web shop",
    "created_at": "2026-11-22T12:00:00Z",
}


class ProjectOut(Representation):
    """A project."""

    id = WireIdField(ids.PROJECT)
    slug = serializers.CharField(help_text="What pre-flights call it in `subject.project`.")
    name = serializers.CharField()
    created_at = TimeField()


class ProjectIn(Strict):
    """A project to be made."""

    slug = serializers.CharField(max_length=63, help_text="1 to 63 characters of a-z, 0-9, - and _.")
    name = serializers.CharField(max_length=200)


class ProjectChanges(Strict):
    """What can change of a project: its slug is what calls name, and stays."""

    name = serializers.CharField(max_length=200, required=False)


class ProjectFilters(django_filters.FilterSet):
    """Filters of the list."""

    slug = django_filters.CharFilter(max_length=63)

    class Meta:
        model = Project
        fields: ClassVar[list[str]] = ["slug"]


class Projects(TenantView[Project]):
    """Projects of the tenant."""

    topic = Topic.PROJECTS
    id_prefix = ids.PROJECT
    queryset = Project.objects.all()
    representation = ProjectOut
    filterset_class = ProjectFilters

    @extend_schema(
        operation_id="listProjects",
        summary="List projects",
        responses=ProjectOut(many=True),
        examples=[OpenApiExample("One project", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists the tenant's projects, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createProject",
        summary="Create a project",
        request=ProjectIn,
        responses={201: ProjectOut},
        examples=[
            OpenApiExample("A project", value={"slug": "web", "name": "Web shop"}, request_only=True),
            OpenApiExample("The project", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates a project; calls can name it at once."""
        made = create_project(
            tenant_id=self.tenant_id, actor=self.actor, now=self.now, **self.read(ProjectIn)
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getProject",
        summary="Get a project",
        responses=ProjectOut,
        examples=[OpenApiExample("The project", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one project."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateProject",
        summary="Rename a project",
        request=ProjectChanges,
        responses=ProjectOut,
        examples=[
            OpenApiExample("A new name", value={"name": "Shop"}, request_only=True),
            OpenApiExample("The project", value={**EXAMPLE, "name": "Shop"}, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes a project's name."""
        project = self.wanted(pk)
        self.require_match(project)
        changes: dict[str, Any] = self.read(ProjectChanges)
        if "name" in changes:
            project = rename_project(
                tenant_id=self.tenant_id,
                project_id=project.pk,
                name=changes["name"],
                actor=self.actor,
                now=self.now,
            )
        return self.answer(project)
