"""The chain of the audit log, and everything that somebody with the owner's rights may do to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from pytest_django.fixtures import Settings

from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.domain import audit_chain as domain
from tenants.models import AuditCheckpoint, AuditEntry, AuditLink, Tenant
from tenants.services import audit, audit_files
from tenants.services.audit_chain import (
    Kind,
    Report,
    adopt,
    compare,
    make_checkpoint,
    make_checkpoints,
    stored,
    verify,
)
from tests.tenants.cast import NOW, Cast, make_tenant

pytestmark = pytest.mark.real_db

CHAINED = ("tenants_auditentry", "tenants_auditlink", "tenants_auditcheckpoint")
Owner = Callable[..., None]


@pytest.fixture
def owner(owner_database_url: str) -> Owner:
    """Runs a statement as the owner of the schema, who can switch off what guards the log."""

    def run(statement: str, *values: Any) -> None:
        with psycopg.connect(owner_database_url) as database:
            for table in CHAINED:
                database.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            database.execute(statement, values)
            database.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in CHAINED:
                database.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    return run


@pytest.fixture
def tenant(real_database: None) -> UUID:
    """A tenant whose chain has six entries: its creation, and five changes."""
    tenant_id = make_tenant("alice").tenant.pk
    for number in range(1, 6):
        write(tenant_id, number)
    return tenant_id


def write(tenant_id: UUID, number: int) -> None:
    with transaction.atomic():
        audit.record(
            tenant_id=tenant_id,
            actor="test",
            action="thing.edit",
            object=f"thing-{number}",
            before={"number": number - 1, "name": "größer\n", "list": [1, None, True], "share": 0.25},
            after={"number": float(number), "zeta": 1, "alpha": {"b": 1e21, "a": "2"}},
            now=NOW + timedelta(minutes=number),
        )


def link_at(tenant_id: UUID, sequence: int) -> AuditLink:
    return AuditLink.objects.get(tenant_id=tenant_id, sequence=sequence)


def found(tenant_id: UUID) -> list[tuple[int, str, Kind]]:
    return [
        (finding.sequence, finding.entry, finding.kind)
        for finding in verify(tenant_id=tenant_id).sorted_findings()
    ]


def named(link: AuditLink) -> str:
    return ids.encode(ids.AUDIT_ENTRY, link.pk)


def rewrite_from(owner: Owner, tenant_id: UUID, first: int, *, key: bytes, kid: str) -> None:
    """What an owner can do who knows the code: makes a chain that hangs together again, signed with `key`."""
    previous = bytes(link_at(tenant_id, first - 1).hash)
    for link in AuditLink.objects.filter(tenant_id=tenant_id, sequence__gte=first).order_by("sequence"):
        entry = AuditEntry.objects.get(pk=link.pk)
        previous = domain.link_hash(previous=previous, sequence=link.sequence, content=audit.content(entry))
        owner(
            "UPDATE tenants_auditlink SET hash = %s, signature = %s, kid = %s WHERE id = %s",
            previous,
            domain.sign_link(key, previous),
            kid,
            link.pk,
        )


class TestChain:
    def test_is_whole_as_it_is_written(self, tenant: UUID) -> None:
        report = verify(tenant_id=tenant)
        assert (report.entries, report.findings) == (6, [])
        assert report.head == bytes(link_at(tenant, 6).hash).hex()

    def test_has_a_place_for_every_entry_of_a_batch(self, tenant: UUID) -> None:
        with transaction.atomic():
            changes = [audit.Change(action="thing.make", object=f"new-{number}") for number in range(1200)]
            audit.record_many(tenant_id=tenant, actor="test", changes=changes, now=NOW)
        report = verify(tenant_id=tenant)
        assert (report.entries, report.findings) == (1206, [])

    def test_is_undone_with_its_change(self, tenant: UUID) -> None:
        with transaction.atomic():
            audit.record(tenant_id=tenant, actor="test", action="thing.edit", object="x", now=NOW)
            transaction.set_rollback(True)
        write(tenant, 6)
        assert verify(tenant_id=tenant).entries == 7

    def test_cannot_be_altered_by_the_application(self, tenant: UUID) -> None:
        for table in CHAINED:
            for statement in (f"UPDATE {table} SET tenant_id = tenant_id", f"DELETE FROM {table}"):
                with (
                    pytest.raises(ProgrammingError, match="permission denied"),
                    transaction.atomic(),
                    connection.cursor() as cursor,
                ):
                    cursor.execute(statement)

    def test_cannot_be_altered_by_the_owner_by_mistake(self, owner_database_url: str) -> None:
        for table in CHAINED:
            with (
                psycopg.connect(owner_database_url) as database,
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
            ):
                database.execute(f"DELETE FROM {table}")


class TestTampering:
    @pytest.mark.parametrize(
        "change",
        [
            "actor = 'somebody'",
            "action = 'thing.make'",
            "object = 'thing-9'",
            "at = at + interval '1 microsecond'",
            "before = NULL",
            "after = jsonb_set(after, '{number}', '3000')",
        ],
    )
    def test_of_a_field_is_found(self, tenant: UUID, owner: Owner, change: str) -> None:
        victim = link_at(tenant, 3)
        owner(f"UPDATE tenants_auditentry SET {change} WHERE id = %s", victim.pk)
        assert found(tenant) == [(3, named(victim), Kind.ALTERED)]

    def test_by_removing_an_entry_is_found(self, tenant: UUID, owner: Owner) -> None:
        victim = link_at(tenant, 4)
        owner("ALTER TABLE tenants_auditlink DROP CONSTRAINT tenants_auditlink_entry_same_tenant")
        try:
            owner("DELETE FROM tenants_auditentry WHERE id = %s", victim.pk)
            assert found(tenant) == [(4, named(victim), Kind.REMOVED)]
        finally:
            owner("DELETE FROM tenants_auditlink WHERE id = %s", victim.pk)
            owner(
                "ALTER TABLE tenants_auditlink ADD CONSTRAINT tenants_auditlink_entry_same_tenant "
                "FOREIGN KEY (tenant_id, id) REFERENCES tenants_auditentry (tenant_id, id) "
                "DEFERRABLE INITIALLY DEFERRED"
            )

    def test_by_removing_an_entry_with_its_place_is_found(self, tenant: UUID, owner: Owner) -> None:
        victim = link_at(tenant, 4)
        owner("DELETE FROM tenants_auditlink WHERE id = %s", victim.pk)
        owner("DELETE FROM tenants_auditentry WHERE id = %s", victim.pk)
        assert found(tenant) == [(4, "", Kind.REMOVED)]

    def test_by_closing_the_gap_is_found(self, tenant: UUID, owner: Owner) -> None:
        victim, next_one = link_at(tenant, 4), link_at(tenant, 5)
        owner("DELETE FROM tenants_auditlink WHERE id = %s", victim.pk)
        owner("DELETE FROM tenants_auditentry WHERE id = %s", victim.pk)
        owner("UPDATE tenants_auditlink SET sequence = 4 WHERE id = %s", next_one.pk)
        owner("UPDATE tenants_auditlink SET sequence = 5 WHERE tenant_id = %s AND sequence = 6", tenant)
        assert found(tenant)[0] == (4, named(next_one), Kind.ALTERED)

    def test_by_inserting_an_entry_is_found(self, tenant: UUID, owner: Owner) -> None:
        entry = ids.new_uuid(NOW)
        owner(
            "INSERT INTO tenants_auditentry (id, tenant_id, actor, action, object, at) "
            "VALUES (%s, %s, 'alice', 'budget.edit', 'bud_x', %s)",
            entry,
            tenant,
            NOW,
        )
        assert found(tenant) == [(0, ids.encode(ids.AUDIT_ENTRY, entry), Kind.INSERTED)]

    def test_by_inserting_an_entry_with_a_place_is_found(self, tenant: UUID, owner: Owner) -> None:
        entry = ids.new_uuid(NOW)
        owner(
            "INSERT INTO tenants_auditentry (id, tenant_id, actor, action, object, at) "
            "VALUES (%s, %s, 'alice', 'budget.edit', 'bud_x', %s)",
            entry,
            tenant,
            NOW,
        )
        owner(
            "INSERT INTO tenants_auditlink (id, tenant_id, sequence, hash, kid, signature) "
            "SELECT %s, tenant_id, 7, hash, kid, signature FROM tenants_auditlink WHERE tenant_id = %s AND sequence = 6",
            entry,
            tenant,
        )
        assert found(tenant) == [(7, ids.encode(ids.AUDIT_ENTRY, entry), Kind.ALTERED)]

    def test_of_the_order_is_found(self, tenant: UUID, owner: Owner) -> None:
        third, fourth = link_at(tenant, 3), link_at(tenant, 4)
        for sequence, link in ((1000, third), (3, fourth), (4, third)):
            owner("UPDATE tenants_auditlink SET sequence = %s WHERE id = %s", sequence, link.pk)
        assert found(tenant)[0] == (3, named(fourth), Kind.ALTERED)

    @pytest.mark.parametrize("kid", ["known", "unknown"])
    def test_by_rewriting_the_chain_without_the_key_is_found(
        self, tenant: UUID, owner: Owner, settings: Settings, kid: str
    ) -> None:
        victim = link_at(tenant, 3)
        owner("UPDATE tenants_auditentry SET object = 'thing-9' WHERE id = %s", victim.pk)
        named_kid = settings.NOBURN_SIGNING_KID if kid == "known" else "k99"
        rewrite_from(owner, tenant, 3, key=b"guessed" * 5, kid=named_kid)
        kind = Kind.FORGED if kid == "known" else Kind.UNKNOWN_KEY
        assert found(tenant)[0] == (3, named(victim), kind)

    def test_by_giving_an_entry_to_another_tenant_is_refused(self, tenant: UUID, owner: Owner) -> None:
        theirs = make_tenant("charlie").tenant.pk
        victim = link_at(tenant, 6)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            owner(
                "UPDATE tenants_auditlink SET tenant_id = %s, sequence = 2 WHERE id = %s", theirs, victim.pk
            )

    def test_leaves_the_other_tenants_chains_alone(self, tenant: UUID, cast: Cast, owner: Owner) -> None:
        owner("UPDATE tenants_auditentry SET actor = 'x' WHERE id = %s", link_at(tenant, 2).pk)
        assert found(cast.tenant.pk) == []


class TestCheckpoints:
    def test_are_made_where_a_chain_has_grown(self, tenant: UUID) -> None:
        make_checkpoints(now=NOW)
        assert [kept.point.sequence for kept in stored(tenant_id=tenant)] == [6]
        make_checkpoints(now=NOW)
        write(tenant, 6)
        make_checkpoints(now=NOW)
        assert [kept.point.sequence for kept in stored(tenant_id=tenant)] == [6, 7]
        report = verify(tenant_id=tenant)
        assert (report.checkpoints, report.findings) == (2, [])

    def test_find_a_chain_that_was_cut(self, tenant: UUID, owner: Owner) -> None:
        assert make_checkpoint(tenant_id=tenant, now=NOW) is not None
        self._cut(owner, tenant, 5)
        assert found(tenant) == [(6, "", Kind.CUT)]

    def test_kept_apart_find_what_was_cut_from_the_database_as_well(
        self, tenant: UUID, owner: Owner, tmp_path: Path
    ) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        audit_files.append(tmp_path, stored(tenant_id=tenant), now=NOW)
        self._cut(owner, tenant, 5)
        owner("DELETE FROM tenants_auditcheckpoint WHERE tenant_id = %s", tenant)
        assert found(tenant) == []
        reports = {tenant: verify(tenant_id=tenant)}
        [file] = audit_files.files_in(tmp_path)
        compare(reports=reports, checkpoints=audit_files.read(file), all_tenants=False)
        assert [(one.sequence, one.kind) for one in reports[tenant].findings] == [(6, Kind.CUT)]

    def test_kept_apart_find_a_chain_that_was_rewritten_with_the_key(
        self, tenant: UUID, owner: Owner, settings: Settings
    ) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        kept = list(stored(tenant_id=tenant))
        owner("DELETE FROM tenants_auditcheckpoint WHERE tenant_id = %s", tenant)
        owner("UPDATE tenants_auditentry SET object = 'thing-9' WHERE id = %s", link_at(tenant, 3).pk)
        kid = settings.NOBURN_SIGNING_KID
        rewrite_from(owner, tenant, 3, key=settings.NOBURN_SIGNING_KEYS[kid], kid=kid)
        reports = {tenant: verify(tenant_id=tenant)}
        assert reports[tenant].findings == []
        compare(reports=reports, checkpoints=kept, all_tenants=False)
        assert [(one.sequence, one.kind) for one in reports[tenant].findings] == [(6, Kind.FORGED)]

    def test_of_a_tenant_that_is_gone_are_found(self, tenant: UUID) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        reports: dict[UUID, Report] = {}
        gone = UUID(int=7)
        [kept] = stored(tenant_id=tenant)
        point = domain.Point(tenant_id=gone, sequence=6, hash=kept.point.hash)
        compare(
            reports=reports,
            checkpoints=[audit_files.Kept(point=point, made_at=NOW, kid="retired", signature=b"")],
            all_tenants=True,
        )
        assert [one.kind for one in reports[gone].findings] == [Kind.CUT]

    def test_that_were_altered_are_found(self, tenant: UUID, owner: Owner) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        owner(
            "UPDATE tenants_auditcheckpoint SET made_at = made_at + interval '1 day' WHERE tenant_id = %s",
            tenant,
        )
        assert found(tenant) == [(6, "", Kind.FORGED)]

    def test_are_not_made_of_a_chain_that_is_not_as_written(
        self, tenant: UUID, owner: Owner, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        write(tenant, 6)
        owner("UPDATE tenants_auditentry SET actor = 'x' WHERE id = %s", link_at(tenant, 7).pk)
        make_checkpoints(now=NOW)
        assert AuditCheckpoint.objects.filter(tenant_id=tenant).count() == 1
        assert ids.encode(ids.TENANT, tenant) in caplog.text
        assert "place 7" in caplog.text

    def test_are_outlived_by_retired_keys(self, tenant: UUID, settings: Settings) -> None:
        make_checkpoint(tenant_id=tenant, now=NOW)
        old = dict(settings.NOBURN_SIGNING_KEYS)
        settings.NOBURN_SIGNING_KEYS, settings.NOBURN_SIGNING_KID = {**old, "next": b"n" * 32}, "next"
        write(tenant, 6)
        settings.NOBURN_SIGNING_KEYS = {"next": b"n" * 32}
        assert found(tenant) == []

    @staticmethod
    def _cut(owner: Owner, tenant_id: UUID, left: int) -> None:
        for link in AuditLink.objects.filter(tenant_id=tenant_id, sequence__gt=left):
            owner("DELETE FROM tenants_auditlink WHERE id = %s", link.pk)
            owner("DELETE FROM tenants_auditentry WHERE id = %s", link.pk)


class TestEntriesFromBefore:
    def unlinked(self, tenant_id: UUID, owner: Owner) -> None:
        owner("DELETE FROM tenants_auditlink WHERE tenant_id = %s", tenant_id)

    def test_are_linked_by_the_migration_and_again_where_it_ended(
        self, tenant: UUID, owner: Owner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migration = import_module("tenants.migrations.0008_audit_chain")
        self.unlinked(tenant, owner)
        monkeypatch.setattr(migration, "BATCH", 4)
        assert migration.link_batch(apps, tenant) == 4
        assert migration.link_batch(apps, tenant) == 2
        assert migration.link_batch(apps, tenant) == 0
        report = verify(tenant_id=tenant)
        assert (report.entries, report.findings) == (6, [])
        write(tenant, 6)
        assert verify(tenant_id=tenant).findings == []

    def test_are_adopted_by_a_person_who_is_named(self, tenant: UUID, owner: Owner) -> None:
        self.unlinked(tenant, owner)
        assert [kind for _, _, kind in found(tenant)] == [Kind.INSERTED] * 6
        assert adopt(tenant_id=tenant, actor="command:audit alice", reason="the upgrade", now=NOW) == 6
        report = verify(tenant_id=tenant)
        assert (report.entries, report.findings) == (7, [])
        entry = AuditEntry.objects.get(tenant_id=tenant, action="audit.adopt")
        assert entry.after is not None
        assert len(entry.after["entries"]) == 6
        assert adopt(tenant_id=tenant, actor="command:audit alice", reason="the upgrade", now=NOW) == 0

    def test_are_not_adopted_without_a_reason(self, tenant: UUID) -> None:
        with pytest.raises(Invalid, match="reason"):
            adopt(tenant_id=tenant, actor="alice", reason=" ", now=NOW)


class TestCommand:
    def said(self, *words: str) -> str:
        out = StringIO()
        call_command("audit", *words, stdout=out)
        return out.getvalue()

    def test_verifies_signs_and_exports(
        self, tenant: UUID, owner: Owner, settings: Settings, tmp_path: Path
    ) -> None:
        settings.AUDIT_CHECKPOINTS_DIR = tmp_path / "apart"
        slug = Tenant.objects.get(pk=tenant).slug
        assert "chains signed" in self.said("checkpoint")
        [file] = audit_files.files_in(tmp_path / "apart")
        assert file.stat().st_mode & 0o777 == 0o600
        assert "6 entries, 2 checkpoints: 0 chains" in self.said("verify", "--tenant", slug)
        exported = self.said("export", "--tenant", slug)
        assert json.loads(exported)["sequence"] == 6
        elsewhere = tmp_path / "elsewhere.jsonl"
        elsewhere.write_text(exported)
        owner("UPDATE tenants_auditentry SET actor = 'x' WHERE id = %s", link_at(tenant, 2).pk)
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("audit", "verify", "--tenant", slug, "--checkpoints", str(elsewhere), stdout=out)
        assert f"{slug} place 2 {named(link_at(tenant, 2))} altered" in out.getvalue()
        assert "3 checkpoints: 1 chains are not" in out.getvalue()
        found = json.loads(self._failing("verify", "--tenant", slug, "--json"))
        assert found[0]["findings"][0]["sequence"] == 2

    def test_refuses_a_file_that_holds_something_else(self, tenant: UUID, tmp_path: Path) -> None:
        file = tmp_path / "x.jsonl"
        file.write_text('{"tenant": "ten_1"}\n')
        with pytest.raises(CommandError, match="line 1: is no checkpoint"):
            self.said("verify", "--tenant", Tenant.objects.get(pk=tenant).slug, "--checkpoints", str(file))

    def _failing(self, *words: str) -> str:
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("audit", *words, stdout=out)
        return out.getvalue()


class TestHash:
    CONTENT = domain.Content(
        tenant_id=UUID(int=1),
        entry_id=UUID(int=2),
        actor="user:mem_1",
        action="budget.edit",
        object="bud_1",
        before={"limit_usd": "10"},
        after={"limit_usd": "20"},
        at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
    )

    def test_stays_what_it_is(self) -> None:
        # Chains of every installation rest on this value: a changed form needs a form of its own, "noburn-audit-2".
        hash = domain.link_hash(previous=domain.ROOT, sequence=1, content=self.CONTENT)
        assert hash.hex() == "e105f949a40aa1cfc19d60f0b52f5067a6b156d12fe16e55d2fb13529202ebdb"
        signature = domain.sign_link(bytes(32), hash)
        assert signature.hex() == "9d696bb406bfdf199d563e402d635a90e54447fc02c49a0fe27b093d79e63c45"
