"""Input in JSON: its types are what they say, and unknown fields are errors."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework import serializers

from noburn.kit.rest.serializers import Strict


class Thing(Strict):
    name = serializers.CharField(required=False, allow_null=True)
    count = serializers.IntegerField(required=False)
    on = serializers.BooleanField(required=False)
    words = serializers.ListField(child=serializers.CharField(), required=False)
    size = serializers.ChoiceField(choices=["small", "large"], required=False)
    colours = serializers.ListField(child=serializers.ChoiceField(choices=["red", "blue"]), required=False)


class TestStrict:
    @pytest.mark.parametrize(
        "data", [{}, {"name": "5"}, {"name": None}, {"count": 5}, {"on": False}, {"words": ["a", "b"]}]
    )
    def test_takes_what_has_the_right_type(self, data: dict[str, Any]) -> None:
        thing = Thing(data=data)
        assert thing.is_valid(), thing.errors
        assert thing.validated_data == data

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", 5),
            ("name", 1.5),
            ("name", True),
            ("name", ["a"]),
            ("count", "5"),
            ("count", True),
            ("count", 5.0),
            ("on", 1),
            ("on", "true"),
            ("words", ["a", 5]),
            ("words", "ab"),
            ("colour", "red"),
        ],
    )
    def test_converts_nothing(self, field: str, value: Any) -> None:
        thing = Thing(data={field: value})
        assert not thing.is_valid()
        assert set(thing.errors) == {field}

    def test_names_every_wrong_field_at_once(self) -> None:
        thing = Thing(data={"name": 5, "count": "x", "colour": "red", "words": ["a"]})
        assert not thing.is_valid()
        assert set(thing.errors) == {"name", "count", "colour"}

    def test_names_the_values_of_a_closed_list(self) -> None:
        thing = Thing(data={"size": "medium", "colours": ["red", "grey"]})
        assert not thing.is_valid()
        assert thing.errors == {
            "size": ["must be one of small, large"],
            "colours": {1: ["must be one of red, blue"]},
        }

    def test_says_that_it_must_be_an_object(self) -> None:
        thing = Thing(data=[{"name": "a"}])
        assert not thing.is_valid()
        assert thing.errors == {"non_field_errors": ["must be an object"]}
