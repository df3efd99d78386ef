"""Rollups of usage, the log of decisions, and what reads and prunes them. Source: budgets/stores/postgres/sql/."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("budgets", "0003_escrow")]
    operations: list[migrations.RunSQL] = []
