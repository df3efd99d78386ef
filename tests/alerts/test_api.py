"""The management API of alerts: what people see, who may change it, and what nobody is shown twice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils.http import urlencode

from alerts.models import Alert
from alerts.services.alerts import NewAlert, raise_alerts
from alerts.services.destinations import wire_id
from noburn.kit import ids
from tenants.models import IdempotentAnswer, Member, Role, User
from tests.alerts.desk import Desk
from tests.doubles.webhook import WebhookReceiver
from tests.support.api import Api
from tests.tenants.cast import Cast, api_of, unique

pytestmark = pytest.mark.real_db

URL = "https://hooks.example.com/noburn"
SLACK = "https://hooks.slack.com/services/T000/B000/XXXXsecretXXXX"
ENDPOINTS, EMAILS = "/v1/webhook-endpoints", "/v1/alert-emails"


@pytest.fixture
def api(cast: Cast) -> Api:
    return api_of(cast.tenant, "read", "manage")


@pytest.fixture
def charlie(cast: Cast) -> Api:
    return api_of(cast.charlie.tenant, "read", "manage")


def member(cast: Cast, role: Role) -> Api:
    user = User.objects.create_user(f"{unique('dave')}@example.com")
    Member.objects.create(tenant=cast.tenant, user=user, role=role)
    return Api(user=user)


class TestWebhookEndpoints:
    def test_are_made_changed_and_removed(self, api: Api) -> None:
        made = api.post(ENDPOINTS, {"url": URL, "alert_kinds": ["drift", "threshold"], "description": "ours"})
        assert made.status == 201
        assert made["secret"].startswith("whsec_")
        path = f"{ENDPOINTS}/{made['id']}"
        seen = api.get(path)
        assert seen.body == {name: value for name, value in made.body.items() if name != "secret"}
        assert (seen["alert_kinds"], seen["enabled"], seen["disabled_because"]) == (
            ["threshold", "drift"],
            True,
            "",
        )
        changed = api.patch(path, {"enabled": False}, headers={"If-Match": seen.headers["etag"]})
        assert (changed["enabled"], changed["disabled_because"]) == (False, "person")
        stale = api.patch(path, {"enabled": True}, headers={"If-Match": seen.headers["etag"]})
        assert (stale.status, stale.kind) == (412, "precondition-failed")
        assert api.delete(path, headers={"If-Match": seen.headers["etag"]}).status == 412
        assert api.delete(path).status == 204
        assert api.get(path).status == 404
        actions = [e["action"] for e in api.all("/v1/audit") if e["object"] == made["id"]]
        assert actions == ["destination.remove", "destination.change", "destination.create"]

    def test_show_a_secret_once_and_keep_it_nowhere(self, api: Api, cast: Cast) -> None:
        made = api.post(ENDPOINTS, {"url": URL}, key="k1")
        again = api.post(ENDPOINTS, {"url": URL}, key="k1")
        assert (again["id"], again["secret"]) == (made["id"], None)
        rotated = api.post(f"{ENDPOINTS}/{made['id']}/rotate-secret", {"overlap_seconds": 60}, key="k2")
        assert rotated.status == 201
        assert rotated["previous_secret_until"] is not None
        assert rotated["secret"] != made["secret"]
        slack = api.post(ENDPOINTS, {"url": SLACK, "kind": "slack"})
        assert (slack["url"], slack["secret"]) == ("https://hooks.slack.com/…XXXX", None)
        kept = IdempotentAnswer.objects.filter(tenant=cast.tenant)
        everything = json.dumps(
            [
                api.get(path).body
                for path in (
                    ENDPOINTS,
                    f"{ENDPOINTS}/{made['id']}",
                    f"{ENDPOINTS}/{slack['id']}",
                    "/v1/audit",
                )
            ]
        ) + str([(one.body, one.headers) for one in kept])
        assert made["id"] in everything
        for secret in (made["secret"], rotated["secret"], SLACK, "XXXXsecret"):
            assert secret not in everything

    def test_name_every_error_at_once(self, api: Api) -> None:
        wrong = {"url": "https://169.254.169.254/", "alert_kinds": ["gossip"], "colour": "red"}
        assert set(api.post(ENDPOINTS, wrong).fields) == {"alert_kinds[0]", "colour"}
        assert api.post(ENDPOINTS, {"url": "https://169.254.169.254/"}).fields == {
            "url": "must not point to a private, local or reserved address"
        }
        assert set(api.post(ENDPOINTS, {}).fields) == {"url"}

    @pytest.mark.parametrize(
        "url", ["http://example.com/", "https://2130706433/", "https://[::1]/", "\0", "x" * 3000]
    )
    def test_refuse_urls_that_could_reach_us(self, api: Api, url: str) -> None:
        answer = api.post(ENDPOINTS, {"url": url})
        assert (answer.status, set(answer.fields)) == (400, {"url"})

    def test_are_filtered(self, api: Api) -> None:
        webhook = api.post(ENDPOINTS, {"url": URL})["id"]
        slack = api.post(ENDPOINTS, {"url": SLACK, "kind": "slack"})["id"]
        api.post(EMAILS, {"email": "a@example.com"})
        api.patch(f"{ENDPOINTS}/{slack}", {"enabled": False})
        assert [one["id"] for one in api.all(ENDPOINTS)] == [slack, webhook]
        assert [one["id"] for one in api.all(ENDPOINTS, kind="webhook")] == [webhook]
        assert [one["id"] for one in api.all(ENDPOINTS, enabled="false")] == [slack]
        assert api.get(ENDPOINTS, kind="email").status == 400
        assert api.get(ENDPOINTS, colour="red").status == 400

    def test_are_pinged(self, api: Api, desk: Desk, receiver: WebhookReceiver) -> None:
        made = api.post(ENDPOINTS, {"url": receiver.url, "alert_kinds": ["drift"]})
        ping = api.post(f"{ENDPOINTS}/{made['id']}/ping", {})
        assert (ping.status, ping["state"], ping["kind"], ping["history"]) == (201, "pending", "ping", [])
        desk.later(minutes=1)
        desk.deliver()
        delivered = api.get(f"/v1/deliveries/{ping['id']}")
        assert (delivered["state"], delivered["history"][0]["status"]) == ("delivered", 204)
        (got,) = receiver.received
        assert got.id == ping["id"]
        assert got.is_signed_by(made["secret"])
        assert api.get(f"/v1/alerts/{ping['alert']}")["kind"] == "ping"


class TestAlertEmails:
    def test_are_made_changed_pinged_and_removed(self, api: Api) -> None:
        made = api.post(EMAILS, {"email": "ops@example.com"})
        assert made.status == 201
        assert made["id"].startswith("eml_")
        assert "secret" not in made.body
        path = f"{EMAILS}/{made['id']}"
        assert (
            api.patch(path, {"email": "night@example.com", "alert_kinds": ["drift"]})["email"]
            == "night@example.com"
        )
        assert api.post(f"{path}/ping")["destination"] == made["id"]
        assert [one["id"] for one in api.all(EMAILS)] == [made["id"]]
        assert api.delete(path).status == 204
        assert api.all(EMAILS) == []

    def test_are_addresses(self, api: Api) -> None:
        assert api.post(EMAILS, {"email": "nobody"}).fields == {"email": "must be an email address"}
        api.post(EMAILS, {"email": "ops@example.com"})
        assert api.post(EMAILS, {"email": "ops@example.com"}).fields == {"email": "hears of alerts already"}

    def test_are_not_webhook_endpoints(self, api: Api) -> None:
        made = api.post(EMAILS, {"email": "ops@example.com"})
        other = made["id"].replace("eml_", "whe_")
        assert api.get(f"{ENDPOINTS}/{other}").status == 404
        assert api.get(f"{ENDPOINTS}/{made['id']}").status == 404
        assert api.post(f"{ENDPOINTS}/{other}/rotate-secret", {}).status == 404


class TestAlerts:
    def test_are_listed_newest_first_without_the_silent_ones(self, api: Api, desk: Desk) -> None:
        for percent in (50, 80):
            desk.alert(percent=percent)
            desk.later(seconds=1)
        silent = NewAlert(
            tenant_id=desk.tenant_id, kind="threshold", dedupe_key="s", subject="bud_x", silent=True
        )
        raise_alerts(alerts=[silent], now=desk.now)
        listed = api.all("/v1/alerts")
        assert [one["details"]["percent"] for one in listed] == [80, 50]
        assert listed[0]["title"] == "80 % of web is spent"
        assert api.get(f"/v1/alerts/{listed[0]['id']}").body == listed[0]
        assert set(api.get("/v1/alerts", fields="id,kind")["items"][0]) == {"id", "kind"}

    def test_are_filtered_by_kind_and_time(self, api: Api, desk: Desk) -> None:
        began = desk.now
        desk.alert()
        desk.later(hours=1)
        desk.alert(kind="wallet_low")

        def kinds(**query: Any) -> list[str]:
            return [one["kind"] for one in api.all("/v1/alerts", **query)]

        assert kinds(kind="wallet_low") == ["wallet_low"]
        half = (began + timedelta(minutes=30)).isoformat().replace("+00:00", "Z")
        assert kinds(from_=half) == ["wallet_low"]
        assert kinds(to=half) == ["threshold"]
        assert kinds(severity="warning") == ["wallet_low", "threshold"]
        assert api.get("/v1/alerts", kind="gossip").status == 400
        assert api.get("/v1/alerts", from_="yesterday").status == 400

    def test_come_in_pages(self, api: Api, desk: Desk) -> None:
        for _ in range(5):
            desk.alert()
        listed = api.all("/v1/alerts", limit=2)
        assert len({one["id"] for one in listed}) == 5


class TestDeliveries:
    def test_tell_what_became_of_each(self, api: Api, desk: Desk, receiver: WebhookReceiver) -> None:
        receiver.answers = [500]
        made = desk.webhook(receiver.url)
        mail = desk.destination("email", "ops@example.com")
        desk.alert()
        desk.deliver()
        desk.later(minutes=1)
        desk.deliver()
        (delivery,) = api.all("/v1/deliveries", destination=wire_id(made.destination))
        assert (delivery["state"], delivery["attempts"], delivery["next_attempt_at"]) == (
            "delivered",
            2,
            None,
        )
        assert [(one["number"], one["status"]) for one in delivery["history"]] == [(2, 204), (1, 500)]
        (alert,) = api.all("/v1/alerts")
        assert len(api.all("/v1/deliveries", alert=alert["id"])) == 2
        (mailed,) = api.all("/v1/deliveries", destination=wire_id(mail.destination))
        assert mailed["state"] == "delivered"
        assert len(api.all("/v1/deliveries", state="delivered", kind="threshold")) == 2
        assert api.all("/v1/deliveries", state="failed") == []
        assert api.all("/v1/deliveries", alert=ids.encode(ids.ALERT, uuid4())) == []
        assert set(api.get("/v1/deliveries", alert="alr_x").fields) == {"alert"}
        assert set(api.get("/v1/deliveries", destination="bud_x").fields) == {"destination"}

    def test_are_sent_again(self, api: Api, desk: Desk, receiver: WebhookReceiver) -> None:
        made = desk.webhook(receiver.url)
        desk.alert()
        desk.deliver()
        (delivery,) = api.all("/v1/deliveries")
        again = api.post(f"/v1/deliveries/{delivery['id']}/replay")
        assert (again.status, again["state"]) == (200, "pending")
        desk.later(minutes=1)
        desk.deliver()
        assert [got.id for got in receiver.received] == [delivery["id"]] * 2
        desk.change(made, enabled=False)
        refused = api.post(f"/v1/deliveries/{delivery['id']}/replay")
        assert (refused.status, set(refused.fields)) == (400, {"destination"})


class TestRights:
    @pytest.mark.parametrize(
        ("role", "may"), [("owner", True), ("admin", True), ("billing", False), ("viewer", False)]
    )
    def test_to_change_are_the_owners_and_admins(self, cast: Cast, role: Role, may: bool) -> None:
        someone = member(cast, role)
        assert someone.post(ENDPOINTS, {"url": URL}).status == (201 if may else 403)
        assert someone.post(EMAILS, {"email": "a@example.com"}).status == (201 if may else 403)
        for path in (ENDPOINTS, EMAILS, "/v1/alerts", "/v1/deliveries"):
            assert someone.get(path).status == 200

    def test_of_keys_are_their_scopes(self, cast: Cast) -> None:
        reader, caller = api_of(cast.tenant, "read"), api_of(cast.tenant, "preflight", "settle")
        assert reader.get(ENDPOINTS).status == 200
        assert reader.post(ENDPOINTS, {"url": URL}).kind == "forbidden-scope"
        assert caller.get("/v1/alerts").kind == "forbidden-scope"

    def test_of_another_tenant_end_at_its_own_things(self, api: Api, charlie: Api, desk: Desk) -> None:
        endpoint, email = (
            api.post(ENDPOINTS, {"url": URL})["id"],
            api.post(EMAILS, {"email": "a@example.com"})["id"],
        )
        desk.alert()
        delivery, alert = api.all("/v1/deliveries")[0]["id"], api.all("/v1/alerts")[0]["id"]
        prefixes = (ids.WEBHOOK_ENDPOINT, ids.ALERT_EMAIL, ids.ALERT, ids.DELIVERY)
        made_up = {prefix: ids.encode(prefix, uuid4()) for prefix in prefixes}
        calls: list[tuple[str, str, str, Any]] = [
            ("GET", ENDPOINTS, endpoint, None),
            ("PATCH", ENDPOINTS, endpoint, {"enabled": False}),
            ("DELETE", ENDPOINTS, endpoint, None),
            ("GET", EMAILS, email, None),
            ("PATCH", EMAILS, email, {"enabled": False}),
            ("DELETE", EMAILS, email, None),
            ("GET", "/v1/alerts", alert, None),
            ("GET", "/v1/deliveries", delivery, None),
        ]
        calls += [("POST", f"{ENDPOINTS}/{{}}/{verb}", endpoint, {}) for verb in ("ping", "rotate-secret")]
        calls += [
            ("POST", f"{EMAILS}/{{}}/ping", email, {}),
            ("POST", "/v1/deliveries/{}/replay", delivery, {}),
        ]
        for method, path, thing, body in calls:
            shape = path if "{}" in path else f"{path}/{{}}"
            theirs = charlie.send(method, shape.format(thing), body)
            nobody_s = charlie.send(method, shape.format(made_up[thing.partition("_")[0]]), body)
            assert theirs.status == nobody_s.status == 404, (method, path)
            for answer in (theirs, nobody_s):
                answer.body.pop("instance")
            assert theirs.body == nobody_s.body
        for path in (ENDPOINTS, EMAILS, "/v1/alerts", "/v1/deliveries"):
            assert charlie.all(path) == []
        for query in ({"destination": endpoint}, {"alert": alert}):
            assert charlie.all("/v1/deliveries?" + urlencode(query)) == []
        assert api.get(f"{ENDPOINTS}/{endpoint}")["enabled"]

    def test_of_tenants_end_before_what_concerns_the_installation(self, api: Api, desk: Desk) -> None:
        told = NewAlert(tenant_id=None, kind="drift", dedupe_key=f"x:{uuid4()}", subject="x")
        raise_alerts(alerts=[told], now=desk.now)
        alert = Alert.objects.get(dedupe_key=told.dedupe_key)
        assert api.get(f"/v1/alerts/{ids.encode(ids.ALERT, alert.pk)}").status == 404
        assert api.all("/v1/alerts") == []
