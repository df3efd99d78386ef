"""Routes before a tenant's pages: signing in and up (django-allauth's), a person's tenants."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from tenants.dashboard.entrance import Enter, NewTenant, Tenants

urlpatterns: list[URLPattern | URLResolver] = [
    path("enter", Enter.as_view(), name="enter"),
    path("tenants", Tenants.as_view(), name="tenants"),
    path("tenants/new", NewTenant.as_view(), name="new-tenant"),
    path("account/", include("allauth.urls")),
]
