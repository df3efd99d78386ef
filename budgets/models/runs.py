"""Runs of agents that somebody started or stopped. Written by the functions of sql/runs.sql alone; docs/runs.md."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from budgets.domain.runs import RunState
from tenants.models import TenantOwned

STATES = (RunState.OPEN.value, RunState.ENDED.value, RunState.STOPPED.value)


class Run(TenantOwned):
    """One run. Caps never change; `parents` are the runs above it, from the root on.

    `ends_at` is the earliest end of its own and its parents' seconds, `ends_by` the run whose they are. `depth_left` says
    how many levels of runs may be below. `digest` tells the same start from another; it is empty where nobody started it.
    """

    run = models.CharField(max_length=200)
    version = models.IntegerField()
    state = models.CharField(max_length=8, choices=[(state, state) for state in STATES])
    parent = models.CharField(max_length=200, null=True, blank=True)
    parents = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    depth_left = models.SmallIntegerField()
    cap_nano = models.BigIntegerField(null=True, blank=True)
    cap_steps = models.BigIntegerField(null=True, blank=True)
    cap_seconds = models.IntegerField(null=True, blank=True)
    cap_depth = models.SmallIntegerField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    ends_by = models.CharField(max_length=200, blank=True)
    idle_seconds = models.IntegerField()
    project = models.CharField(max_length=200, blank=True)
    customer = models.CharField(max_length=200, blank=True)
    end_user = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "run"], name="budgets_run_one_per_name"),
            models.CheckConstraint(condition=models.Q(state__in=STATES), name="budgets_run_state"),
            models.CheckConstraint(
                condition=models.Q(state="open", closed_at__isnull=True)
                | ~models.Q(state="open") & models.Q(closed_at__isnull=False),
                name="budgets_run_closed",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "started_at", "id"], name="budgets_run_by_start"),
            models.Index(
                fields=["tenant", "id"], name="budgets_run_of_open", condition=models.Q(state="open")
            ),
            models.Index(
                fields=["last_seen_at", "id"], name="budgets_run_idle", condition=models.Q(state="open")
            ),
        ]

    def __str__(self) -> str:
        return self.run
