from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection

from noburn.kit import ids
from tenants.domain import api_keys
from tenants.models import ApiKey, AuditEntry
from tenants.services.keys import InvalidKey, IssuedKey, KeyNotFound, issue_key, revoke_key, rotate_key
from tests.tenants.cast import ACTOR, NOW, Cast

pytestmark = pytest.mark.real_db


def issue(cast: Cast, **changes: object) -> IssuedKey:
    order: dict[str, object] = {
        "name": "app",
        "scopes": ["settle", "preflight"],
        "project_id": cast.project.pk,
    }
    return issue_key(tenant_id=cast.tenant.pk, actor=ACTOR, now=NOW, **{**order, **changes})  # type: ignore[arg-type]


class TestIssueKey:
    def test_stores_a_digest_and_never_the_secret(self, cast: Cast) -> None:
        issued = issue(cast)
        stored = ApiKey.objects.get(pk=issued.key.pk)
        assert api_keys.parse(issued.secret) == issued.secret
        assert bytes(stored.digest) == api_keys.digest(settings.NOBURN_PEPPER, issued.secret)
        assert (stored.prefix, stored.last4) == (issued.secret[:12], issued.secret[-4:])
        assert stored.scopes == ["preflight", "settle"]
        assert issued.secret not in repr(issued)
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_jsonb(k)::text FROM tenants_apikey k WHERE id = %s", [stored.pk])
            assert issued.secret not in cursor.fetchone()[0]

    def test_leaves_no_secret_in_the_audit_log(self, cast: Cast) -> None:
        issued = issue(cast)
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="api_key.issue")
        written = json.dumps([entry.before, entry.after, entry.object])
        assert issued.secret not in written
        assert bytes(issued.key.digest).hex() not in written

    def test_names_every_error_at_once(self, cast: Cast) -> None:
        with pytest.raises(InvalidKey) as refused:
            issue(cast, name="", scopes=["burn"], expires_at=NOW, project_id=cast.charlie.project.pk)
        assert [error.field for error in refused.value.errors] == ["name", "scopes", "expires_at", "project"]

    def test_needs_a_scope(self, cast: Cast) -> None:
        with pytest.raises(InvalidKey, match="at least one of preflight, settle, read, manage"):
            issue(cast, scopes=[])

    def test_may_serve_all_projects(self, cast: Cast) -> None:
        assert issue(cast, project_id=None).key.project_id is None


class TestRotateKey:
    def test_leaves_two_live_keys_during_the_overlap(self, cast: Cast) -> None:
        old = issue(cast).key
        new = rotate_key(
            tenant_id=cast.tenant.pk, key_id=old.pk, overlap=timedelta(hours=1), actor=ACTOR, now=NOW
        ).key
        old.refresh_from_db()
        assert old.replaced_by == new
        assert new.scopes == old.scopes
        assert new.project_id == old.project_id
        for later, old_lives in ((timedelta(minutes=59), True), (timedelta(hours=1), False)):
            assert old.is_live(NOW + later) is old_lives
            assert new.is_live(NOW + later)

    def test_never_lengthens_the_life_of_the_old_key(self, cast: Cast) -> None:
        ends_at = NOW + timedelta(minutes=5)
        old = issue(cast, expires_at=ends_at).key
        rotate_key(tenant_id=cast.tenant.pk, key_id=old.pk, overlap=timedelta(days=1), actor=ACTOR, now=NOW)
        old.refresh_from_db()
        assert old.expires_at == ends_at

    def test_refuses_a_third_live_key_of_one_line(self, cast: Cast) -> None:
        old = issue(cast).key
        rotate_key(tenant_id=cast.tenant.pk, key_id=old.pk, overlap=timedelta(days=1), actor=ACTOR, now=NOW)
        with pytest.raises(InvalidKey, match="rotate its successor"):
            rotate_key(
                tenant_id=cast.tenant.pk, key_id=old.pk, overlap=timedelta(days=1), actor=ACTOR, now=NOW
            )

    def test_refuses_a_key_that_is_dead_and_a_silly_overlap(self, cast: Cast) -> None:
        old = issue(cast).key
        revoke_key(tenant_id=cast.tenant.pk, key_id=old.pk, actor=ACTOR, now=NOW)
        with pytest.raises(InvalidKey) as refused:
            rotate_key(
                tenant_id=cast.tenant.pk, key_id=old.pk, overlap=timedelta(days=91), actor=ACTOR, now=NOW
            )
        assert [error.field for error in refused.value.errors] == ["overlap", "key"]


class TestRevokeKey:
    def test_ends_a_key_at_once_and_once(self, cast: Cast) -> None:
        key = issue(cast).key
        later = NOW + timedelta(seconds=1)
        revoke_key(tenant_id=cast.tenant.pk, key_id=key.pk, actor=ACTOR, now=NOW)
        again = revoke_key(tenant_id=cast.tenant.pk, key_id=key.pk, actor=ACTOR, now=later)
        assert again.revoked_at == NOW
        assert not again.is_live(NOW)
        assert AuditEntry.objects.filter(tenant=cast.tenant, action="api_key.revoke").count() == 1

    @pytest.mark.parametrize("theirs", [True, False])
    def test_answers_for_a_foreign_key_as_for_none(self, cast: Cast, theirs: bool) -> None:
        key_id: UUID = issue(cast).key.pk if theirs else ids.new_uuid(NOW)
        with pytest.raises(KeyNotFound):
            revoke_key(tenant_id=cast.charlie.tenant.pk, key_id=key_id, actor="user:charlie", now=NOW)
