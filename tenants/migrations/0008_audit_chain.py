"""The chain of the audit log; entries from before are linked, tenant by tenant, in batches of their own."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models, transaction

import tenants.models.base
from tenants.domain import audit_chain as chain

BATCH = 500

# As of the log itself: the trigger holds for the owner as well, and the application's role does not hold the rights.
APPEND_ONLY = """
ALTER TABLE tenants_auditlink ADD CONSTRAINT tenants_auditlink_entry_same_tenant
    FOREIGN KEY (tenant_id, id) REFERENCES tenants_auditentry (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
CREATE TRIGGER tenants_auditlink_append_only BEFORE UPDATE OR DELETE ON tenants_auditlink
    FOR EACH STATEMENT EXECUTE FUNCTION tenants_audit_is_append_only();
CREATE TRIGGER tenants_auditcheckpoint_append_only BEFORE UPDATE OR DELETE ON tenants_auditcheckpoint
    FOR EACH STATEMENT EXECUTE FUNCTION tenants_audit_is_append_only();
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['noburn_app', 'noburn_gateway'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON tenants_auditlink, tenants_auditcheckpoint FROM %I',
                           role_name);
        END IF;
    END LOOP;
END $$;
"""


def link_what_is_there(apps, _schema_editor):
    """Links the entries of every tenant, oldest first. Goes on where an interrupted run ended.

    Each batch is one transaction under the tenant's lock, so a running installation waits for one batch at most. An
    entry that older code writes during the upgrade, after its tenant's turn, stays without a link:
    `manage.py audit verify` names it and `manage.py audit adopt` links it.
    """
    Tenant = apps.get_model("tenants", "Tenant")
    for tenant_id in Tenant.objects.order_by("pk").values_list("pk", flat=True).iterator():
        while link_batch(apps, tenant_id) == BATCH:
            pass


def link_batch(apps, tenant_id):
    AuditEntry, AuditLink = apps.get_model("tenants", "AuditEntry"), apps.get_model("tenants", "AuditLink")
    kid = settings.NOBURN_SIGNING_KID
    key = settings.NOBURN_SIGNING_KEYS[kid]
    with transaction.atomic():
        apps.get_model("tenants", "Tenant").objects.select_for_update(no_key=True).get(pk=tenant_id)
        head = AuditLink.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
        sequence, previous = (head.sequence, bytes(head.hash)) if head else (0, chain.ROOT)
        rows = AuditEntry.objects.filter(tenant_id=tenant_id)
        linked = AuditLink.objects.filter(tenant_id=tenant_id, pk=models.OuterRef("pk"))
        links = []
        for row in rows.filter(~models.Exists(linked)).order_by("at", "pk")[:BATCH]:
            sequence += 1
            content = chain.Content(
                tenant_id=tenant_id,
                entry_id=row.pk,
                actor=row.actor,
                action=row.action,
                object=row.object,
                before=row.before,
                after=row.after,
                at=row.at,
            )
            previous = chain.link_hash(previous=previous, sequence=sequence, content=content)
            links.append(
                AuditLink(
                    id=row.pk,
                    tenant_id=tenant_id,
                    sequence=sequence,
                    hash=previous,
                    kid=kid,
                    signature=chain.sign_link(key, previous),
                )
            )
        AuditLink.objects.bulk_create(links)
    return len(links)


class Migration(migrations.Migration):
    # Batches commit one by one; what creates the tables is one statement each.
    atomic = False
    dependencies = [
        ("tenants", "0007_second_factor_and_rates"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditCheckpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.fresh_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("sequence", models.BigIntegerField()),
                ("hash", models.BinaryField(max_length=32)),
                ("kid", models.CharField(max_length=64)),
                ("signature", models.BinaryField(max_length=32)),
                ("made_at", models.DateTimeField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "id"), name="tenants_auditcheckpoint_tenant_id"
                    ),
                    models.UniqueConstraint(
                        fields=("tenant", "sequence"), name="tenants_auditcheckpoint_sequence_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditLink",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.fresh_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("sequence", models.BigIntegerField()),
                ("hash", models.BinaryField(max_length=32)),
                ("kid", models.CharField(max_length=64)),
                ("signature", models.BinaryField(max_length=32)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="tenants_auditlink_tenant_id"),
                    models.UniqueConstraint(
                        fields=("tenant", "sequence"), name="tenants_auditlink_sequence_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sequence__gte", 1)), name="tenants_auditlink_sequence"
                    ),
                ],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, migrations.RunSQL.noop),
        migrations.RunPython(link_what_is_there, migrations.RunPython.noop),
    ]
