"""Projects of a tenant: made and renamed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.models import Project
from tenants.services import audit
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant, name_errors, slug_errors

PROJECTS_MAX = 1_000
"""The most projects of a tenant: all of them are in its compiled policy."""


class InvalidProject(Invalid):
    """A project that breaks rules."""


class ProjectNotFound(Missing):
    """The tenant has no such project."""


def create_project(*, tenant_id: UUID, slug: str, name: str, actor: str, now: datetime) -> Project:
    """Creates a project. Raises TenantNotFound, or InvalidProject with every error."""
    errors = [*slug_errors("slug", slug), *name_errors("name", name)]
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        taken = Project.objects.filter(tenant_id=tenant_id)
        if not errors and taken.filter(slug=slug).exists():
            errors.append(FieldError("slug", "is taken by another project"))
        if taken.count() >= PROJECTS_MAX:
            errors.append(FieldError("slug", f"a tenant has at most {PROJECTS_MAX} projects"))
        if errors:
            raise InvalidProject(errors)
        project = Project.objects.create(
            id=ids.new_uuid(now), tenant_id=tenant_id, slug=slug, name=name, created_at=now
        )
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="project.create",
            object=ids.encode(ids.PROJECT, project.pk),
            after={"slug": slug, "name": name},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return project


def rename_project(*, tenant_id: UUID, project_id: UUID, name: str, actor: str, now: datetime) -> Project:
    """Gives a project another name for people. Raises TenantNotFound, ProjectNotFound, InvalidProject."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        project = Project.objects.filter(tenant_id=tenant_id, pk=project_id).first()
        if project is None:
            raise ProjectNotFound(str(project_id))
        if errors := name_errors("name", name):
            raise InvalidProject(errors)
        if project.name == name:
            return project
        before, project.name = project.name, name
        project.save(update_fields=["name"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="project.rename",
            object=ids.encode(ids.PROJECT, project.pk),
            before={"name": before},
            after={"name": name},
            now=now,
        )
    return project
