"""The routes of alerts in the management API, under /v1/."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from alerts.api.alert_emails import AlertEmails
from alerts.api.alerts import Alerts
from alerts.api.deliveries import Deliveries
from alerts.api.webhook_endpoints import WebhookEndpoints

router = SimpleRouter(trailing_slash=False)
router.register("alerts", Alerts, basename="alert")
router.register("alert-emails", AlertEmails, basename="alert-email")
router.register("webhook-endpoints", WebhookEndpoints, basename="webhook-endpoint")
router.register("deliveries", Deliveries, basename="delivery")

urlpatterns = router.urls
