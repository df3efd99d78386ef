"""Whether a tenant asks for second factors, how often it may ask, and which pepper a key's digest was made with."""

from django.db import migrations, models

RATES = ("calls_per_second", "requests_per_second")


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0006_isolation"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="second_factor_required",
            field=models.BooleanField(db_default=False, default=False),
        ),
        *(
            migrations.AddField(
                model_name="tenant",
                name=rate,
                field=models.IntegerField(blank=True, null=True),
            )
            for rate in RATES
        ),
        *(
            migrations.AddConstraint(
                model_name="tenant",
                constraint=models.CheckConstraint(
                    condition=models.Q(
                        (f"{rate}__isnull", True), (f"{rate}__range", (1, 1_000_000)), _connector="OR"
                    ),
                    name=f"tenants_tenant_{rate}",
                ),
            )
            for rate in RATES
        ),
        migrations.AddField(
            model_name="apikey",
            name="pepper",
            field=models.CharField(db_default="", editable=False, max_length=8),
        ),
    ]
