"""Until when a tenant's calls are refused by its own plan."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="calls_refused_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
