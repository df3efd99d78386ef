"""Tables of tenancy, with composite foreign keys and an audit log that cannot be altered."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

import tenants.models.base
import tenants.models.tenancy

COMPOSITE_KEYS = """
ALTER TABLE tenants_enduser ADD CONSTRAINT tenants_enduser_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE tenants_apikey ADD CONSTRAINT tenants_apikey_project_same_tenant
    FOREIGN KEY (tenant_id, project_id) REFERENCES tenants_project (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE tenants_apikey ADD CONSTRAINT tenants_apikey_replaced_by_same_tenant
    FOREIGN KEY (tenant_id, replaced_by_id) REFERENCES tenants_apikey (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = """
ALTER TABLE tenants_apikey DROP CONSTRAINT tenants_apikey_replaced_by_same_tenant;
ALTER TABLE tenants_apikey DROP CONSTRAINT tenants_apikey_project_same_tenant;
ALTER TABLE tenants_enduser DROP CONSTRAINT tenants_enduser_customer_same_tenant;
"""

# The trigger holds for the owner as well; the revoke keeps the right itself from the application's role.
APPEND_ONLY_AUDIT = """
CREATE FUNCTION tenants_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER tenants_auditentry_append_only BEFORE UPDATE OR DELETE ON tenants_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION tenants_audit_is_append_only();
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['noburn_app', 'noburn_gateway'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON tenants_auditentry FROM %I', role_name);
        END IF;
    END LOOP;
END $$;
"""
DROP_APPEND_ONLY_AUDIT = """
DROP TRIGGER tenants_auditentry_append_only ON tenants_auditentry;
DROP FUNCTION tenants_audit_is_append_only();
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="Customer",
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
                ("external_id", models.CharField(max_length=200)),
                ("name", models.CharField(blank=True, db_default="", max_length=200)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("external_id", ""), _negated=True),
                        name="tenants_customer_external_id",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.fresh_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("email", models.EmailField(max_length=254, unique=True)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("is_active", models.BooleanField(default=True)),
                ("is_staff", models.BooleanField(default=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",  # noqa: E501
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("email", django.db.models.functions.text.Lower("email"))),
                        name="tenants_user_email_lower_case",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Tenant",
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
                ("slug", models.CharField(max_length=63, unique=True)),
                ("name", models.CharField(max_length=200)),
                (
                    "time_zone",
                    models.CharField(
                        default="UTC", max_length=64, validators=[tenants.models.tenancy.validate_time_zone]
                    ),
                ),
                ("default_max_output_tokens", models.IntegerField(default=4096)),
                (
                    "unknown_model",
                    models.CharField(
                        choices=[("refuse", "Refuse"), ("dearest", "Dearest")],
                        default="refuse",
                        max_length=16,
                    ),
                ),
                ("subject_limit", models.BigIntegerField(default=1000000)),
                ("suspended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$")),
                        name="tenants_tenant_slug",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unknown_model__in", ["refuse", "dearest"])),
                        name="tenants_tenant_unknown_model",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("default_max_output_tokens__range", (1, 10000000))),
                        name="tenants_tenant_default_max_output_tokens",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("subject_limit__range", (0, 1000000000))),
                        name="tenants_tenant_subject_limit",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Project",
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
                ("slug", models.CharField(max_length=63)),
                ("name", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
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
                    models.UniqueConstraint(fields=("tenant", "slug"), name="tenants_project_slug_once"),
                    models.CheckConstraint(
                        condition=models.Q(("slug__regex", "^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$")),
                        name="tenants_project_slug",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Member",
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
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("admin", "Admin"),
                            ("billing", "Billing"),
                            ("viewer", "Viewer"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
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
                    models.UniqueConstraint(fields=("tenant", "user"), name="tenants_member_one_per_user"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["owner", "admin", "billing", "viewer"])),
                        name="tenants_member_role",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="EndUser",
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
                ("external_id", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
                    ),
                ),
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
                        fields=("tenant", "external_id"), name="tenants_enduser_external_id_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("external_id", ""), _negated=True),
                        name="tenants_enduser_external_id",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="customer",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.CreateModel(
            name="AuditEntry",
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
                ("actor", models.CharField(max_length=200)),
                ("action", models.CharField(max_length=64)),
                ("object", models.CharField(max_length=300)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
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
                "verbose_name_plural": "audit entries",
                "indexes": [models.Index(fields=["tenant", "-at", "-id"], name="tenants_audit_newest_first")],
            },
        ),
        migrations.CreateModel(
            name="ApiKey",
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
                ("name", models.CharField(max_length=200)),
                ("prefix", models.CharField(max_length=16)),
                ("last4", models.CharField(max_length=4)),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("preflight", "Preflight"),
                                ("settle", "Settle"),
                                ("read", "Read"),
                                ("manage", "Manage"),
                            ],
                            max_length=16,
                        ),
                        size=None,
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "replaced_by",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.apikey",
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.project",
                    ),
                ),
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
                    models.CheckConstraint(
                        condition=models.Q(
                            ("scopes__contained_by", ["preflight", "settle", "read", "manage"]),
                            ("scopes__len__gte", 1),
                        ),
                        name="tenants_apikey_scopes",
                    )
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_project_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="member",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_member_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="enduser",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_enduser_tenant_id"),
        ),
        migrations.AddIndex(
            model_name="customer",
            index=models.Index(
                condition=models.Q(("suspended_at__isnull", False)),
                fields=["tenant", "external_id"],
                name="tenants_customer_suspended",
            ),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_customer_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                fields=("tenant", "external_id"), name="tenants_customer_external_id_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="auditentry",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_auditentry_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="tenants_apikey_tenant_id"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
        migrations.RunSQL(APPEND_ONLY_AUDIT, DROP_APPEND_ONLY_AUDIT),
    ]
