"""What settled calls taught of the next ones, by model; used by budgets with `estimate: learned`."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from budgets.domain.learning import QUANTILES, Learned
from tenants.models import TenantOwned


class LearnedEstimate(TenantOwned):
    """The percentiles (domain.learning.QUANTILES) of one model's calls: input in ppm of its bound, output tokens."""

    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    samples = models.IntegerField()
    input_ppm = ArrayField(models.IntegerField(), size=len(QUANTILES))
    output_tokens = ArrayField(models.BigIntegerField(), size=len(QUANTILES))
    learned_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "provider", "model"], name="budgets_learnedestimate_one_per_model"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}: {self.samples}"

    @property
    def learned(self) -> Learned:
        """The percentiles as the domain has them."""
        return Learned(self.samples, tuple(self.input_ppm), tuple(self.output_tokens))
