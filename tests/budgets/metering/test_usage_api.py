"""GET /v1/usage and /v1/ledger, against a count over everything that was said of every call."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from budgets.domain.usage import SUMS
from budgets.services import metering
from noburn.kit import ids
from noburn.kit.money import to_usd
from tests.budgets.metering.ledger import Life, RandomLedger, figures_of, resolve
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db

QUESTIONS = 120
COLUMNS = {"user": "end_user"}
DIMENSIONS = ("project", "customer", "user", "plan", "api_key", "provider", "model")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def cast(real_database: None) -> Cast:
    from tests.tenants.cast import make_cast

    return make_cast()


@pytest.fixture(scope="module")
def ledger(cast: Cast, owner_database_url: str) -> RandomLedger:
    """Alice's ledger, rolled up."""
    made = RandomLedger([cast.tenant.pk], seed=11, now=datetime.now(UTC), customers=6)
    with psycopg.connect(owner_database_url, autocommit=True) as owner:
        for _ in range(8):
            items, outcomes = made.batch(100)
            assert resolve(owner, items) == outcomes
    assert not metering.roll(now=datetime.now(UTC)).more
    return made


@pytest.fixture
def api(cast: Cast) -> Api:
    from tests.tenants.cast import api_of

    return api_of(cast.tenant, "read")


def _name(life: Life, group: str) -> str | None:
    if group.startswith("tag:"):
        return life.tags[group.removeprefix("tag:")]
    return life.names[COLUMNS.get(group, group)] or None


def _bucket(life: Life, bucket: str, zone: str) -> str | None:
    if bucket == "none":
        return None
    local = life.at.astimezone(ZoneInfo(zone))
    start = local.replace(minute=0, second=0, microsecond=0)
    if bucket == "day":
        start = datetime.combine(local.date(), time(), ZoneInfo(zone))
    return start.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _shown(lives: list[Life]) -> dict[str, Any]:
    total: dict[str, int] = {}
    for life in lives:
        for name, value in figures_of(life).items():
            total[name] = total.get(name, 0) + value
    count = total.get("latencies", 0)
    return {
        "cost_usd": to_usd(total.get("cost_nano", 0)),
        "presumed_usd": to_usd(total.get("presumed_nano", 0)),
        **{name: total.get(name, 0) for name in SUMS},
        "latency_ms": (2 * total["latency_ms"] + count) // (2 * count) if count else None,
    }


def _expected(ledger: RandomLedger, params: dict[str, Any], answer: Any) -> tuple[list[Any], Any]:
    """Rows in their order, and totals, by going through every call."""
    since, until = (datetime.fromisoformat(answer[name]) for name in ("starts_at", "ends_at"))
    groups = [group for group in params.get("group_by", "").split(",") if group]
    tags = {group.removeprefix("tag:") for group in groups if group.startswith("tag:")}
    lives = []
    for life in ledger.lives:
        if life.last["state"] == "voided" or not since <= life.at < until:
            continue
        if any(life.names[COLUMNS.get(name, name)] != params[name] for name in DIMENSIONS if name in params):
            continue
        if "tag" in params:
            name, _, value = params["tag"].partition(":")
            if life.tags.get(name) != value:
                continue
        if tags <= life.tags.keys():
            lives.append(life)
    by_row: dict[tuple[Any, ...], list[Life]] = {}
    for life in lives:
        start = _bucket(life, params["bucket"], params.get("time_zone", "UTC"))
        by_row.setdefault((start, *(_name(life, group) for group in groups)), []).append(life)
    rows = [
        {"starts_at": row[0], "group": dict(zip(groups, row[1:], strict=True)), **_shown(of)}
        for row, of in sorted(by_row.items(), key=lambda one: tuple(part or "" for part in one[0]))
    ]
    return rows, _shown(lives)


def _questions(now: datetime) -> Iterator[dict[str, Any]]:
    chance = random.Random(4)
    for _ in range(QUESTIONS):
        bucket = chance.choice(["hour", "day", "none"])
        params = {"bucket": bucket}
        tagged = chance.random() < 0.3
        names = ["project", "customer", "provider", "model"] if tagged else list(DIMENSIONS)
        groups = chance.sample(names, chance.randrange(3))
        if tagged:
            tag = chance.choice(["feature", "team", "ö"])
            if chance.random() < 0.5:
                params["tag"] = f"{tag}:{chance.choice(['x', 'y', ''])}"
            if chance.random() < 0.7 or "tag" not in params:
                groups.insert(chance.randrange(len(groups) + 1), f"tag:{tag}")
        if groups:
            params["group_by"] = ",".join(groups)
        if chance.random() < 0.4:
            name = chance.choice(["project", "customer", "model"])
            values = {
                "project": ["web"],
                "customer": ["c1", "c2", ""],
                "model": ["gpt-4o", "eigenes-Modell,“ä”"],
            }
            params[name] = chance.choice(values[name])
        if not tagged and chance.random() < 0.3:
            params |= chance.choice([{"user": 'u"3, ('}, {"user": ""}, {"plan": "pro"}, {"api_key": "key_a"}])
        if bucket == "day":
            params["time_zone"] = chance.choice(ZONES)
        days = 75 if bucket == "day" and params["time_zone"] == "UTC" else 28
        if chance.random() < 0.7:
            params["from"] = (now - chance.uniform(0.2, days) * timedelta(days=1)).isoformat()
        if chance.random() < 0.3:
            params["to"] = (now - chance.uniform(0, 0.19) * timedelta(days=1)).isoformat()
        yield params


class TestUsage:
    def test_is_what_adding_up_every_call_gives(self, api: Api, ledger: RandomLedger) -> None:
        rows = 0
        for params in _questions(datetime.now(UTC)):
            answer = api.get("/v1/usage", limit="200", **params)
            assert answer.status == 200, (params, answer)
            items, totals = _expected(ledger, params, answer)
            assert answer["totals"] == totals, params
            assert answer["items"] == items[:200], params
            assert (answer["next_cursor"] is None) is (len(items) <= 200)
            rows += len(items)
        assert rows > 2_000

    def test_comes_page_by_page_without_a_gap(self, api: Api, ledger: RandomLedger) -> None:
        every: tuple[dict[str, Any], ...] = (
            {"bucket": "hour", "group_by": "model,customer"},
            {"bucket": "day", "group_by": "tag:feature,customer", "time_zone": "Asia/Tokyo"},
            {"bucket": "none", "group_by": "user"},
        )
        for params in every:
            whole = api.get("/v1/usage", limit="200", **params)["items"]
            assert api.all("/v1/usage", limit="3", **params)[:200] == whole

    def test_can_begin_with_the_dearest(self, api: Api, ledger: RandomLedger) -> None:
        params = {"bucket": "none", "group_by": "customer,model"}
        rows = api.all("/v1/usage", **params)
        dearest = api.all("/v1/usage", limit="4", sort="-cost_usd", **params)
        assert sorted(map(str, rows)) == sorted(map(str, dearest))
        costs = [float(row["cost_usd"]) for row in dearest]
        assert costs == sorted(costs, reverse=True)

    def test_says_how_far_it_is_complete(self, api: Api, ledger: RandomLedger) -> None:
        metering.roll(now=datetime.now(UTC))
        through = metering.status().through_at
        assert through is not None
        assert datetime.fromisoformat(api.get("/v1/usage")["complete_through"]) >= through

    def test_shows_chosen_fields(self, api: Api, ledger: RandomLedger) -> None:
        answer = api.get("/v1/usage", bucket="none", fields="cost_usd,requests")
        assert [row.keys() for row in answer["items"]] == [{"cost_usd", "requests"}]

    @pytest.mark.parametrize("asked", [{"format": "csv"}, {"accept": "text/csv"}])
    def test_comes_as_a_table_too(self, api: Api, ledger: RandomLedger, asked: dict[str, Any]) -> None:
        params = {"bucket": "day", "group_by": "customer,model"}
        query = {"format": "csv"} if "format" in asked else {}
        answer = api.get("/v1/usage", headers={"Accept": asked.get("accept", "*/*")}, **params, **query)
        assert answer.headers["content-type"].startswith("text/csv")
        assert isinstance(answer.body, str)
        table = list(csv.DictReader(io.StringIO(answer.body)))
        rows = api.all("/v1/usage", **params)
        assert [row["cost_usd"] for row in table] == [row["cost_usd"] for row in rows]
        assert [row["customer"] or None for row in table] == [row["group"]["customer"] for row in rows]

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"customers": "acme"}, "customers"),
            ({"limit": "0"}, "limit"),
            ({"format": "xml"}, "format"),
            ({"cursor": "x"}, "cursor"),
            ({"fields": "price"}, "fields"),
            ({"group_by": "tag:a,user"}, "group_by"),
        ],
    )
    def test_names_what_is_wrong(self, api: Api, params: dict[str, Any], field: str) -> None:
        answer = api.get("/v1/usage", **params)
        assert answer.status == 400
        assert [error["field"] for error in answer["errors"]] == [field]

    def test_is_the_tenants_own(self, cast: Cast, ledger: RandomLedger) -> None:
        from tests.tenants.cast import api_of

        charlie = api_of(cast.charlie.tenant, "read")
        answer = charlie.get("/v1/usage", group_by="customer")
        assert answer["items"] == []
        assert answer["totals"] == _shown([])

    def test_is_one_projects_own_for_a_key_of_a_project(
        self, cast: Cast, ledger: RandomLedger, api: Api
    ) -> None:
        key = self._project_key(cast)
        params: dict[str, Any] = {"bucket": "none", "group_by": "project"}
        assert (
            key.get("/v1/usage", **params)["items"] == api.get("/v1/usage", project="web", **params)["items"]
        )
        assert key.get("/v1/usage", project="app").status == 400
        assert {entry["project"] for entry in key.all("/v1/ledger", limit="200")} == {"web"}
        seen = {
            project: next(life for life in ledger.lives if life.names["project"] == project)
            for project in ("web", "app")
        }
        answers = {p: key.get(f"/v1/ledger/{ids.encode('hold', life.hold_id)}") for p, life in seen.items()}
        assert {p: answer.status for p, answer in answers.items()} == {"web": 200, "app": 404}

    @staticmethod
    def _project_key(cast: Cast) -> Api:
        from noburn.kit.clock import utc_now
        from tenants.models import Project
        from tenants.services.keys import issue_key
        from tenants.services.projects import create_project

        project = Project.objects.filter(tenant=cast.tenant, slug="web").first() or create_project(
            tenant_id=cast.tenant.pk, slug="web", name="Web", actor="test", now=utc_now()
        )
        issued = issue_key(
            tenant_id=cast.tenant.pk,
            name="web",
            scopes=["read"],
            project_id=project.pk,
            actor="test",
            now=utc_now(),
        )
        return Api(secret=issued.secret)


class TestLedger:
    def test_lists_every_entry_once_the_latest_holds_first(
        self, api: Api, ledger: RandomLedger, owner: psycopg.Connection[Any], cast: Cast
    ) -> None:
        entries = api.all("/v1/ledger", limit="173")
        assert len(entries) == ledger.tallies["first"] + ledger.tallies["corrected"]
        assert len({(entry["hold_id"], entry["revision"]) for entry in entries}) == len(entries)
        assert [e["placed_at"] for e in entries] == sorted((e["placed_at"] for e in entries), reverse=True)

    @pytest.mark.parametrize(
        "params",
        [{"customer": "c1"}, {"user": 'u"3, ('}, {"project": "web", "model": "gpt-4o"}, {"kind": "presumed"}],
    )
    def test_filters(self, api: Api, ledger: RandomLedger, params: dict[str, Any]) -> None:
        found = api.all("/v1/ledger", limit="200", **params)
        every = api.all("/v1/ledger", limit="200")
        assert found == [entry for entry in every if all(entry[name] == params[name] for name in params)]
        assert found

    def test_is_cut_by_the_time_of_placing(self, api: Api, ledger: RandomLedger) -> None:
        since, until = (datetime.now(UTC) - hours * HOUR for hours in (30, 10))
        found = api.all("/v1/ledger", limit="200", from_=since.isoformat(), to=until.isoformat())
        holds = {ids.encode("hold", life.hold_id) for life in ledger.lives if since <= life.at < until}
        assert {entry["hold_id"] for entry in found} == holds

    def test_tells_a_holds_whole_story(self, api: Api, ledger: RandomLedger) -> None:
        for life in ledger.lives[:40]:
            hold = ids.encode("hold", life.hold_id)
            story = api.get(f"/v1/ledger/{hold}")
            assert (story["state"], story["cost_usd"]) == (life.last["state"], to_usd(life.last["cost"]))
            assert story["requests"] == life.last["requests"]
            assert [entry["revision"] for entry in story["entries"]] == [*range(1, len(story["entries"]) + 1)]
            assert story["entries"][-1]["usage"] == life.last["usage"]
            listed = api.get("/v1/ledger", hold=hold)["items"]
            assert sorted(e["revision"] for e in listed) == [e["revision"] for e in story["entries"]]

    def test_knows_no_hold_of_another_tenant(self, cast: Cast, ledger: RandomLedger) -> None:
        from tests.tenants.cast import api_of

        charlie = api_of(cast.charlie.tenant, "read")
        hold = ids.encode("hold", ledger.lives[0].hold_id)
        other = charlie.get(f"/v1/ledger/{hold}")
        nothing = charlie.get(f"/v1/ledger/{ids.encode('hold', cast.tenant.pk)}")
        assert (other.status, nothing.status) == (404, 404)
        assert {**other.body, "instance": ""} == {**nothing.body, "instance": ""}
        assert charlie.get("/v1/ledger")["items"] == []
        assert charlie.get("/v1/ledger", hold=hold)["items"] == []

    @pytest.mark.parametrize(
        ("params", "fields"),
        [
            ({"kind": "spent", "hold": "x", "from": "y"}, ["kind", "hold", "from"]),
            ({"plan": "free"}, ["plan"]),
            ({"cursor": "kZM"}, ["cursor"]),
            ({"customer": "", "run": " "}, ["customer", "run"]),
        ],
    )
    def test_names_what_is_wrong(self, api: Api, params: dict[str, Any], fields: list[str]) -> None:
        answer = api.get("/v1/ledger", **params)
        assert answer.status == 400
        assert [error["field"] for error in answer["errors"]] == fields
