"""Reports of plans keep what became of them in one word, as measurements do: both are sent by the same rules."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_true_ups"),
    ]

    operations = [
        migrations.AddField(
            model_name="planreport",
            name="outcome",
            field=models.CharField(blank=True, db_default="", max_length=16),
        ),
    ]
