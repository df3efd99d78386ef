"""The cast: Alice owns a tenant, Bob works there, Charlie owns another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.models import Member, Project, Role, Tenant, User
from tenants.services.keys import issue_key
from tenants.services.tenants import CreatedTenant, create_tenant
from tests.support.api import Api

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ACTOR = "user:alice"
_numbers = count(1)


def unique(word: str) -> str:
    """A word that no other test uses: nothing is ever flushed."""
    return f"{word}-{next(_numbers)}-{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Cast:
    alice: CreatedTenant
    bob: Member
    charlie: CreatedTenant

    @property
    def tenant(self) -> Tenant:
        return self.alice.tenant

    @property
    def project(self) -> Project:
        return self.alice.project


def make_tenant(who: str, *, now: datetime = NOW) -> CreatedTenant:
    slug = unique(who)
    return create_tenant(slug=slug, name=who.title(), email=f"{slug}@example.com", actor="test", now=now)


def make_cast() -> Cast:
    alice, charlie = make_tenant("alice"), make_tenant("charlie")
    user = User.objects.create_user(f"{unique('bob')}@example.com", id=ids.new_uuid(NOW))
    bob = Member.objects.create(tenant=alice.tenant, user=user, role=Role.VIEWER)
    return Cast(alice, bob, charlie)


def api_of(tenant: Tenant, *scopes: str) -> Api:
    """The management API, asked with a new key of the tenant."""
    issued = issue_key(tenant_id=tenant.pk, name="test", scopes=scopes, actor="test", now=utc_now())
    return Api(secret=issued.secret)
