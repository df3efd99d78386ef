"""The price book: dated prices that never overlap and are never edited, and the function that loads them."""

import django.contrib.postgres.constraints
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.contrib.postgres.operations import BtreeGistExtension
from django.db import migrations, models

import budgets.models.prices

# Refuses every change of a price row but closing an open one once, and counts the book's versions.
TRIGGERS = """
INSERT INTO price_book_version (id, version) VALUES (1, 0);

CREATE FUNCTION nb_price_rows_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.effective_to IS NULL AND NEW.effective_to IS NOT NULL
            AND (to_jsonb(OLD) - 'effective_to') = (to_jsonb(NEW) - 'effective_to')
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'price row % is never edited: close it and append another', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RAISE EXCEPTION 'price rows are never deleted'
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER price_rows_frozen BEFORE UPDATE OR DELETE ON price_rows
    FOR EACH ROW EXECUTE FUNCTION nb_price_rows_frozen();

CREATE FUNCTION nb_price_book_changed() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.price_book_version AS book (id, version) VALUES (1, 1)
        ON CONFLICT (id) DO UPDATE SET version = book.version + 1, changed_at = now();
    RETURN NULL;
END $$;

CREATE TRIGGER price_providers_changed AFTER INSERT OR UPDATE OR DELETE ON price_providers
    FOR EACH STATEMENT EXECUTE FUNCTION nb_price_book_changed();
CREATE TRIGGER price_models_changed AFTER INSERT OR UPDATE OR DELETE ON price_models
    FOR EACH STATEMENT EXECUTE FUNCTION nb_price_book_changed();
CREATE TRIGGER price_rows_changed AFTER INSERT OR UPDATE ON price_rows
    FOR EACH STATEMENT EXECUTE FUNCTION nb_price_book_changed();
"""

# The whole book in one statement, so in one snapshot: one row for each provider, in the form of
# budgets.domain.pricing_book.ProviderEntry. Prices are integers of pico-USD, which a bigint holds.
LOADER = """
CREATE FUNCTION nb_price_book() RETURNS TABLE (version bigint, provider text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
    SELECT v.version,
        json_build_array(
            p.id, p.provider_pattern, p.model_pattern, p.fallback_providers,
            COALESCE(m.models, '[]'::json))::text
    FROM public.price_providers p
    CROSS JOIN public.price_book_version v
    LEFT JOIN LATERAL (
        SELECT json_agg(
            json_build_array(
                pm.model, pm.pattern, pm.deprecated, pm.context_window, COALESCE(r.prices, '[]'::json))
            ORDER BY pm.position, pm.id) AS models
        FROM public.price_models pm
        LEFT JOIN (
            SELECT pr.price_model_id, json_agg(
                json_build_array(
                    pr.id, pr.variant, pr.unit, pr.tier_start, (pr.price * 1000000000000)::bigint,
                    pr.effective_from, pr.effective_to, pr.daily_from, pr.daily_to)
                ORDER BY pr.id) AS prices
            FROM public.price_rows pr
            GROUP BY pr.price_model_id
        ) r ON r.price_model_id = pm.id
        WHERE pm.provider_id = p.id
    ) m ON true
    ORDER BY p.position, p.id
$$;

CREATE FUNCTION nb_price_book_version() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT version FROM public.price_book_version WHERE id = 1
$$;

REVOKE ALL ON FUNCTION nb_price_book(), nb_price_book_version(), nb_price_book_changed() FROM PUBLIC;
"""

GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'noburn_gateway') THEN
        GRANT EXECUTE ON FUNCTION nb_price_book(), nb_price_book_version() TO noburn_gateway;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'noburn_app') THEN
        GRANT EXECUTE ON FUNCTION nb_price_book(), nb_price_book_version() TO noburn_app;
        REVOKE ALL ON price_rows, price_models, price_providers, price_book_version FROM noburn_app;
        GRANT SELECT, INSERT ON price_rows TO noburn_app;
        GRANT UPDATE (effective_to) ON price_rows TO noburn_app;
        GRANT SELECT, INSERT, UPDATE ON price_models, price_providers TO noburn_app;
        GRANT SELECT ON price_book_version TO noburn_app;
        GRANT USAGE ON SEQUENCE price_rows_id_seq, price_models_id_seq TO noburn_app;
    END IF;
END $$;
"""

UNDO = """
DROP FUNCTION nb_price_book();
DROP FUNCTION nb_price_book_version();
DROP FUNCTION nb_price_rows_frozen() CASCADE;
DROP FUNCTION nb_price_book_changed() CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [("budgets", "0001_budgets")]

    operations = [
        BtreeGistExtension(),
        migrations.CreateModel(
            name="PriceBookVersion",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("version", models.BigIntegerField(default=0)),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "price_book_version",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="price_book_version_single")
                ],
            },
        ),
        migrations.CreateModel(
            name="PriceProvider",
            fields=[
                ("id", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("position", models.IntegerField()),
                ("provider_pattern", models.JSONField(null=True)),
                ("model_pattern", models.JSONField(null=True)),
                (
                    "fallback_providers",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=100), default=list, size=None
                    ),
                ),
                (
                    "pricing_urls",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=500), default=list, size=None
                    ),
                ),
            ],
            options={
                "db_table": "price_providers",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("id__regex", "^[a-z0-9][a-z0-9._-]*$")),
                        name="price_providers_id_is_lower_case",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PriceModel",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("model", models.CharField(max_length=200)),
                ("position", models.IntegerField()),
                ("pattern", models.JSONField(null=True)),
                ("context_window", models.BigIntegerField(null=True)),
                ("deprecated", models.BooleanField(default=False)),
                (
                    "provider",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="models",
                        to="budgets.priceprovider",
                    ),
                ),
            ],
            options={
                "db_table": "price_models",
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "model"), name="price_models_name")
                ],
            },
        ),
        migrations.CreateModel(
            name="PriceRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("variant", models.CharField(blank=True, default="", max_length=64)),
                ("unit", models.CharField(max_length=64)),
                ("tier_start", models.IntegerField(default=0)),
                ("price", models.DecimalField(decimal_places=12, max_digits=20)),
                ("effective_from", models.DateTimeField()),
                ("effective_to", models.DateTimeField(blank=True, null=True)),
                ("daily_from", models.SmallIntegerField(default=0)),
                ("daily_to", models.SmallIntegerField(default=1440)),
                ("source", models.CharField(max_length=300)),
                ("checked_at", models.DateTimeField()),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "price_model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="prices",
                        to="budgets.pricemodel",
                    ),
                ),
            ],
            options={
                "db_table": "price_rows",
                "constraints": [
                    django.contrib.postgres.constraints.ExclusionConstraint(
                        expressions=[
                            ("price_model", "="),
                            ("variant", "="),
                            ("unit", "="),
                            ("tier_start", "="),
                            (budgets.models.prices.MinuteRange("daily_from", "daily_to"), "&&"),
                            (budgets.models.prices.TimeRange("effective_from", "effective_to"), "&&"),
                        ],
                        name="price_rows_no_overlap",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit__regex", "^[a-z][a-z0-9_]*$")), name="price_rows_unit"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("price__gte", 0), ("price__lte", 1000000)),
                        name="price_rows_price",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("tier_start__gte", 0)), name="price_rows_tier_start"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("effective_to__isnull", True),
                            ("effective_to__gt", models.F("effective_from")),
                            _connector="OR",
                        ),
                        name="price_rows_period",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("daily_from__gte", 0),
                            ("daily_to__gt", models.F("daily_from")),
                            ("daily_to__lte", 1440),
                        ),
                        name="price_rows_daily",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("source", ""), _negated=True), name="price_rows_source"
                    ),
                ],
            },
        ),
        migrations.RunSQL(TRIGGERS + LOADER + GRANTS, UNDO),
    ]
