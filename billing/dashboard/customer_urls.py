"""Pages of the dashboard about customers, which show what they owe and have."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing.dashboard.customers import (
    CustomerLimit,
    CustomerNamed,
    CustomerPage,
    CustomerResume,
    Customers,
    CustomerSuspend,
)

urlpatterns: list[URLPattern] = [
    path("customers", Customers.as_view(), name="customers"),
    path("customers/named", CustomerNamed.as_view(), name="customer-named"),
    path("customers/<str:cus_id>", CustomerPage.as_view(), name="customer"),
    path("customers/<str:cus_id>/suspend", CustomerSuspend.as_view(), name="customer-suspend"),
    path("customers/<str:cus_id>/resume", CustomerResume.as_view(), name="customer-resume"),
    path("customers/<str:cus_id>/budgets/<str:bud_id>", CustomerLimit.as_view(), name="customer-limit"),
]
