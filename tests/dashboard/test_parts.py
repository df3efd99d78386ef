"""The parts of pages: amounts in words, tables by keyset, charts, files, the policy."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from django.http import QueryDict
from django.test import Client

from noburn.dashboard import charts, exports, wording
from noburn.dashboard.security import HEADER
from noburn.dashboard.tables import BadSort, Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.models import ApiKey, Project
from tests.support.operators import signed_in, superuser
from tests.tenants.cast import NOW, Cast, make_cast

COLUMNS = (Column("name", "Name", sort="name"), Column("made", "Made", sort="pk"))


@pytest.fixture(scope="module")
def cast(real_database: None) -> Cast:
    return make_cast()


class TestUsd:
    @pytest.mark.parametrize(
        ("nano", "shown"),
        [
            (0, "$0.00"),
            (1, "$0.000000001"),
            (675_000, "$0.000675"),
            (1_080_000, "$0.00108"),
            (1_234_567, "$0.00123"),
            (123_456_789, "$0.123"),
            (500_000_000, "$0.50"),
            (999_600_000, "$1.00"),
            (1_234_567_890_000, "$1,234.57"),
            (-3_000_000_000, "-$3.00"),
        ],
    )
    def test_shows_cents_from_a_dollar_up_and_three_digits_below(self, nano: int, shown: str) -> None:
        assert wording.usd(nano) == shown


@pytest.mark.real_db
class TestTable:
    def walked(self, cast: Cast, sort: str) -> list[str]:
        found, query = [], QueryDict(f"sort={sort}")
        for _ in range(10):
            rows = Project.objects.filter(tenant=cast.tenant)
            table = table_of(rows, query, columns=COLUMNS, sort="name", limit=2)
            found += [row.name for row in table.rows]
            if not table.next_url:
                break
            query = QueryDict(table.next_url[1:])
        return found

    def test_gives_every_row_once_in_either_order_with_equal_names(self, real_database: None) -> None:
        cast = make_cast()
        Project.objects.bulk_create(
            Project(tenant=cast.tenant, slug=f"p{number}", name=f"Name {number // 3}", id=ids.new_uuid(NOW))
            for number in range(7)
        )
        names = ["Default", *(f"Name {number // 3}" for number in range(7))]
        assert self.walked(cast, "name") == sorted(names)
        assert self.walked(cast, "-name") == sorted(names, reverse=True)
        assert sorted(self.walked(cast, "-made")) == sorted(names)

    @pytest.mark.parametrize("query", ["sort=slug", "cursor=x", "cursor=gaFh", "limit=0"])
    def test_refuses_what_it_cannot_use(self, real_database: None, query: str) -> None:
        with pytest.raises(Invalid):
            table_of(Project.objects.none(), QueryDict(query), columns=COLUMNS, sort="name")

    def test_names_the_columns_that_sort(self) -> None:
        with pytest.raises(BadSort, match="made, name"):
            table_of(Project.objects.none(), QueryDict("sort=x"), columns=COLUMNS, sort="name")


class TestChart:
    def drawn(self, **changes: Any) -> charts.Chart:
        values: dict[str, Any] = {
            "title": "Spend <b> a day",
            "labels": ["1 Nov", "2 Nov & on"],
            "series": [charts.Series("gpt", [10**9, None])],
            "say": wording.usd,
        }
        return charts.Chart(**{**values, **changes})

    @pytest.mark.parametrize("kind", sorted(charts.KINDS))
    def test_has_no_style_and_no_script_of_its_own(self, kind: str) -> None:
        svg = self.drawn(kind=kind).svg()
        assert svg.startswith("<svg")
        for unwanted in ("<style", "<script", "style=", " id=", "<b>", "http://www.w3.org/1999"):
            assert unwanted not in svg
        assert 'aria-label="Spend &lt;b&gt; a day"' in svg
        assert "1 Nov: $1.00" in svg

    def test_tells_the_same_as_a_table(self) -> None:
        assert self.drawn().rows == [("1 Nov", ["$1.00"]), ("2 Nov & on", [""])]

    def test_is_empty_without_a_value(self) -> None:
        assert self.drawn(series=[charts.Series("gpt", [0, None])]).is_empty

    def test_refuses_more_than_can_be_read(self) -> None:
        with pytest.raises(ValueError, match="at most"):
            self.drawn(series=[charts.Series("x", [1, 1])] * 9).svg()
        with pytest.raises(ValueError, match="for each label"):
            self.drawn(series=[charts.Series("x", [1])]).svg()


class TestExport:
    def test_gives_no_formula_to_a_spreadsheet(self) -> None:
        answer = exports.export("csv", name="x", columns=["a", "b"], rows=[["=1+1", 5], ["-1+1", "-1.5"]])
        assert answer.content.decode() == "a,b\r\n'=1+1,5\r\n'-1+1,-1.5\r\n"
        assert answer["Content-Disposition"] == 'attachment; filename="x.csv"'

    def test_says_when_there_were_more_rows(self) -> None:
        rows = [[number] for number in range(exports.EXPORT_ROWS_MAX + 1)]
        answer = exports.export("json", name="x", columns=["n"], rows=rows)
        assert len(json.loads(answer.content)) == exports.EXPORT_ROWS_MAX
        assert answer[exports.TRUNCATED_HEADER] == "true"

    def test_knows_two_formats(self) -> None:
        with pytest.raises(exports.BadFormat):
            exports.export("xls", name="x", columns=[], rows=[])


@pytest.mark.real_db
class TestPolicy:
    def test_stands_on_every_page(self) -> None:
        for path in ("/", "/account/login/", "/account/signup/", "/docs/problems/not-found"):
            policy = Client().get(path)[HEADER]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        pages = {
            path: Client().get(path) for path in ("/admin/nothing/", "/v1/openapi.json", "/nothing.json")
        }
        for answer in pages.values():
            assert "frame-ancestors 'none'" in answer[HEADER]
            assert "camera=()" in answer["Permissions-Policy"]

    def test_lets_no_inline_script_run_anywhere(self) -> None:
        admin = superuser().get("/admin/")
        assert admin.status_code == 200
        script = re.search(r"script-src ([^;]*);", admin[HEADER])
        assert script is not None
        assert script[1] == "'self' 'unsafe-eval'"

    def test_is_kept_by_every_template(self) -> None:
        """No template of ours but the operators' has a script, a style or a handler of its own."""
        from django.conf import settings

        found = [
            (path.name, word)
            for path in (settings.BASE_DIR / "templates").rglob("*.html")
            if "admin" not in path.parts
            for word in ("<style", " style=", "onclick=", "onsubmit=", "javascript:", "//cdn", "<script>")
            if word in path.read_text()
        ]
        assert found == []


@pytest.mark.real_db
class TestPages:
    def test_say_times_in_the_tenants_zone(self, cast: Cast) -> None:
        owner = signed_in(cast.alice.user)
        sent = {
            "name": "Alice",
            "time_zone": "Asia/Tokyo",
            "unknown_model": "dearest",
            "default_max_output_tokens": "1000",
            "decision_retention_days": "7",
        }
        assert owner.post(f"/t/{cast.tenant.slug}/settings", sent).status_code == 302
        cast.tenant.refresh_from_db()
        assert (cast.tenant.time_zone, cast.tenant.unknown_model) == ("Asia/Tokyo", "dearest")
        audit = owner.get(f"/t/{cast.tenant.slug}/audit").content.decode()
        # Made at noon UTC, which is nine in the evening there.
        assert "22 Nov 2026, 21:00:00" in audit
        assert 'title="2026-11-22 12:00:00 UTC"' in audit

    def test_answer_htmx_with_the_part_that_it_asks_for(self, cast: Cast) -> None:
        owner = signed_in(cast.alice.user)
        headers = {"HX-Request": "true", "HX-Target": "audit-rows"}
        part = owner.get(f"/t/{cast.tenant.slug}/audit", headers=headers)
        assert part.content.decode().lstrip().startswith('<div id="audit-rows">')
        assert "HX-Request" in part["Vary"]

    def test_show_a_secret_once_and_let_nobody_keep_it(self, cast: Cast) -> None:
        owner, name = signed_in(cast.alice.user), uuid4().hex
        sent = {"name": name, "scopes": ["preflight"], "project": ""}
        shown = owner.post(f"/t/{cast.tenant.slug}/keys/new", sent)
        assert "nb_live_" in shown.content.decode()
        assert "no-store" in shown["Cache-Control"]
        listed = owner.get(f"/t/{cast.tenant.slug}/keys").content.decode()
        assert name in listed
        secret = shown.context["secret"]
        assert secret not in listed
        taken = owner.get(f"/t/{cast.tenant.slug}/keys", {"format": "csv"}).content.decode()
        assert name in taken
        assert secret not in taken

    def test_do_once_what_a_form_asks_once(self, cast: Cast) -> None:
        owner, name, word = signed_in(cast.alice.user), uuid4().hex, uuid4().hex
        sent = {"name": name, "scopes": ["preflight"], "project": "", "once": word}
        assert "nb_live_" in owner.post(f"/t/{cast.tenant.slug}/keys/new", sent).content.decode()
        again = owner.post(f"/t/{cast.tenant.slug}/keys/new", sent, follow=True).content.decode()
        assert "was not done again" in again
        assert ApiKey.objects.filter(tenant=cast.tenant, name=name).count() == 1
        # What was not right was not done, and may be sent again.
        wrong = {**sent, "name": "", "once": uuid4().hex}
        assert owner.post(f"/t/{cast.tenant.slug}/keys/new", wrong).status_code == 400
        assert owner.post(f"/t/{cast.tenant.slug}/keys/new", {**wrong, "name": name}).status_code == 200

    def test_take_no_more_queries_for_more_rows(self, cast: Cast, django_assert_max_num_queries: Any) -> None:
        owner = signed_in(cast.alice.user)
        for place in ("audit", "keys", "team", "settings", "start"):
            with django_assert_max_num_queries(10):
                assert owner.get(f"/t/{cast.tenant.slug}/{place}").status_code == 200

    def test_of_a_suspended_tenant_can_be_read_and_not_changed(self, cast: Cast) -> None:
        type(cast.tenant).objects.filter(pk=cast.charlie.tenant.pk).update(suspended_at=NOW)
        charlie, slug = signed_in(cast.charlie.user), cast.charlie.tenant.slug
        assert "is suspended" in charlie.get(f"/t/{slug}/keys").content.decode()
        assert charlie.get(f"/t/{slug}/keys/new").status_code == 403
        assert charlie.post(f"/t/{slug}/keys/new", {"name": "x", "scopes": ["read"]}).status_code == 403

    def test_keep_the_last_owner(self, cast: Cast) -> None:
        owner = signed_in(cast.alice.user)
        wire = ids.encode(ids.MEMBER, cast.alice.owner.pk)
        answer = owner.post(f"/t/{cast.tenant.slug}/team/{wire}/remove")
        assert answer.status_code == 400
        assert "this is the last owner" in answer.content.decode()
