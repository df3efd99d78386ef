"""The functions by which `migrate` gives each table its row-level policies. Source: noburn/runtime/isolation.sql."""

from pathlib import Path

from django.db import migrations

import noburn.runtime

SQL = Path(noburn.runtime.__file__).with_name("isolation.sql")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_customer_search")]
    operations = [migrations.RunSQL(SQL.read_text(), migrations.RunSQL.noop)]
