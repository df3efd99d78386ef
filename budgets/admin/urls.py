"""Addresses of the money path's pages, below the admin's."""

from __future__ import annotations

from django.urls import path

from budgets.admin.money.counters import counter_detail, counter_list
from budgets.admin.money.epochs import epoch_detail, epoch_list, epoch_write_off
from budgets.admin.money.ledger import hold_detail, ledger_list, resolution_list
from budgets.admin.money.verify import verify_tenant

app_name = "money"
urlpatterns = [
    path("counters/", counter_list, name="counters"),
    path("counters/<uuid:tenant_id>/<uuid:counter_id>/", counter_detail, name="counter"),
    path("epochs/", epoch_list, name="epochs"),
    path("epochs/<uuid:epoch_id>/", epoch_detail, name="epoch"),
    path("epochs/<uuid:epoch_id>/writeoff/", epoch_write_off, name="writeoff"),
    path("ledger/", ledger_list, name="ledger"),
    path("resolutions/", resolution_list, name="resolutions"),
    path("holds/<uuid:tenant_id>/<slug:month>/<uuid:hold_id>/", hold_detail, name="hold"),
    path("verify/", verify_tenant, name="verify"),
]
