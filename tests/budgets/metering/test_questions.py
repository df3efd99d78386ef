"""What may be asked of the rollups, and what of it is refused, field by field."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from budgets.domain.usage import Question, read_question
from noburn.kit.problems import Invalid

NOW = datetime(2026, 11, 22, 12, 34, 56, tzinfo=UTC)


def ask(**params: str) -> Question:
    return read_question({name.rstrip("_"): value for name, value in params.items()}, now=NOW)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestQuestion:
    @pytest.mark.parametrize(
        ("params", "grain", "since", "until"),
        [
            ({}, "total_days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            ({"bucket": "hour"}, "total_hours", "2026-11-21T13:00Z", "2026-11-22T13:00Z"),
            ({"bucket": "none"}, "total_days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            (
                {"bucket": "none", "to": "2026-11-02T03:00Z"},
                "total_hours",
                "2026-10-03T00:00Z",
                "2026-11-02T03:00Z",
            ),
            ({"group_by": "model"}, "total_days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            ({"group_by": "customer"}, "days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            ({"user": "u1", "bucket": "hour"}, "hours", "2026-11-21T13:00Z", "2026-11-22T13:00Z"),
            ({"tag": "feature:chat"}, "tag_days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            ({"group_by": "tag:a:b,customer"}, "tag_days", "2026-10-24T00:00Z", "2026-11-23T00:00Z"),
            ({"time_zone": "Europe/Berlin"}, "total_hours", "2026-10-23T22:00Z", "2026-11-22T23:00Z"),
            (
                {"time_zone": "America/New_York", "from": "2026-11-01T12:00Z", "to": "2026-11-02T05:00Z"},
                "total_hours",
                "2026-11-01T04:00Z",
                "2026-11-02T05:00Z",
            ),
            (
                {"bucket": "hour", "from": "2026-11-20T10:20+02:00", "to": "2026-11-20T11:00 02:00"},
                "total_hours",
                "2026-11-20T08:00Z",
                "2026-11-20T09:00Z",
            ),
        ],
    )
    def test_is_answered_by_the_narrowest_rollups_over_whole_buckets(
        self, params: dict[str, str], grain: str, since: str, until: str
    ) -> None:
        question = ask(**params)
        assert (question.grain, question.since, question.until) == (grain, at(since), at(until))

    @pytest.mark.parametrize(
        ("params", "fields"),
        [
            ({"bucket": "week"}, ["bucket"]),
            ({"sort": "model"}, ["sort"]),
            ({"sort": "-cost_usd"}, ["sort"]),
            ({"group_by": "colour"}, ["group_by"]),
            ({"group_by": ""}, []),
            ({"group_by": "model,model"}, ["group_by"]),
            ({"group_by": "project,customer,provider,model,plan"}, ["group_by"]),
            ({"group_by": "tag:"}, ["group_by"]),
            ({"group_by": "tag:a,tag:b"}, ["group_by"]),
            ({"group_by": "tag:a", "tag": "b:c"}, ["tag"]),
            ({"group_by": "tag:a,user,plan"}, ["group_by", "group_by"]),
            ({"group_by": "tag:a", "user": "u", "api_key": "k"}, ["user", "api_key"]),
            ({"tag": "feature"}, ["tag"]),
            ({"tag": ":chat"}, ["tag"]),
            ({"model": "m" * 201}, ["model"]),
            ({"from": "yesterday", "to": "2026-11-22T12:00:00"}, ["from", "to"]),
            ({"from": "0001-01-01T00:00+23:00"}, ["from"]),
            ({"from": "2026-11-23T00:00Z", "to": "2026-11-22T00:00Z"}, ["from"]),
            ({"from": "2025-10-01T00:00Z"}, ["from"]),
            ({"bucket": "hour", "from": "2026-10-01T00:00Z"}, ["from"]),
            ({"bucket": "none", "from": "2026-10-01T01:00Z"}, ["from"]),
            ({"bucket": "hour", "time_zone": "Europe/Berlin"}, ["time_zone"]),
            ({"time_zone": "Berlin"}, ["time_zone"]),
            ({"time_zone": "Asia/Kolkata"}, ["time_zone"]),
            ({"time_zone": "../etc/passwd"}, ["time_zone"]),
            ({"time_zone": "Europe/Berlin", "from": "2026-08-01T00:00Z"}, ["from"]),
            (
                {"bucket": "x", "group_by": "y", "tag": "z", "from": "w"},
                ["bucket", "group_by", "tag", "from"],
            ),
        ],
    )
    def test_names_every_field_that_is_wrong(self, params: dict[str, str], fields: list[str]) -> None:
        if not fields:
            assert ask(**params).groups == ()
            return
        with pytest.raises(Invalid) as refused:
            ask(**params)
        assert [error.field for error in refused.value.errors] == fields
