"""Which models a provider offers, what two sources said of a proposed price, and a record of imports."""

from django.db import migrations, models

import tenants.models.base

# The prices of each model are gathered once and then joined by a hash, whatever the planner believes of the tables'
# sizes: right after a seed it believes that they are empty, and a nested loop would gather them anew for each model.
# A program that decodes the older form reads this one as well: what it does not know stands last.
LOADER = """
CREATE OR REPLACE FUNCTION nb_price_book() RETURNS TABLE (version bigint, provider text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public SET timezone = 'UTC' SET enable_nestloop = off AS $$
    WITH r AS MATERIALIZED (
        SELECT pr.price_model_id, json_agg(
            json_build_array(
                pr.id, pr.variant, pr.unit, pr.tier_start, (pr.price * 1000000000000)::bigint,
                pr.effective_from, pr.effective_to, pr.daily_from, pr.daily_to)
            ORDER BY pr.id) AS prices
        FROM public.price_rows pr
        GROUP BY pr.price_model_id
    ), m AS MATERIALIZED (
        SELECT pm.provider_id, json_agg(
            json_build_array(
                pm.model, pm.pattern, pm.deprecated, pm.context_window, COALESCE(r.prices, '[]'::json), pm.offered)
            ORDER BY pm.position, pm.id) AS models
        FROM public.price_models pm
        LEFT JOIN r ON r.price_model_id = pm.id
        GROUP BY pm.provider_id
    )
    SELECT v.version,
        json_build_array(
            p.id, p.provider_pattern, p.model_pattern, p.fallback_providers,
            COALESCE(m.models, '[]'::json))::text
    FROM public.price_providers p
    CROSS JOIN public.price_book_version v
    LEFT JOIN m ON m.provider_id = p.id
    ORDER BY p.position, p.id
$$;
"""

OLDER = """
CREATE OR REPLACE FUNCTION nb_price_book() RETURNS TABLE (version bigint, provider text)
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
"""

GRANTS = """
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON price_imports FROM noburn_app;
        GRANT SELECT, INSERT ON price_imports TO noburn_app;
    END IF;
END $$;
"""


def price(*, field: str) -> migrations.AddField:
    """Adds what one source said of a proposed price."""
    return migrations.AddField(
        "priceproposal",
        field,
        models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True),
    )


class Migration(migrations.Migration):
    dependencies = [("budgets", "0011_bounded_sums")]

    operations = [
        migrations.AddField("pricemodel", "offered", models.BooleanField(default=True, db_default=True)),
        price(field="book_price"),
        price(field="genai_price"),
        price(field="litellm_price"),
        migrations.CreateModel(
            name="PriceImport",
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
                ("ran_at", models.DateTimeField()),
                ("sources", models.CharField(max_length=300)),
                ("found", models.JSONField()),
            ],
            options={
                "db_table": "price_imports",
                "indexes": [models.Index(fields=["ran_at", "id"], name="price_imports_by_time")],
            },
        ),
        migrations.RunSQL(LOADER + GRANTS, OLDER),
    ]
