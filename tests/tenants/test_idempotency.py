from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from noburn.kit.problems import ProblemError
from tenants.models import IdempotentAnswer
from tenants.services.idempotency import KEPT, Answered, digest_of, earlier_answer, keep_answer, prune_answers
from tests.tenants.cast import NOW, Cast

pytestmark = pytest.mark.real_db
ANSWER = Answered(status=201, body={"id": "x"}, headers={"ETag": '"1"'})
DIGEST = digest_of(method="POST", path="/v1/x", actor="a", body=b"{}")


class TestIdempotentAnswers:
    def test_differ_by_every_part_of_the_request(self) -> None:
        parts: dict[str, Any] = {"method": "POST", "path": "/v1/x", "actor": "a", "body": b"{}"}
        others = [{**parts, "path": "/v1/y"}, {**parts, "actor": "b"}, {**parts, "body": b"{ }"}]
        moved = {**parts, "path": "/v1/xa", "actor": ""}
        assert len({digest_of(**p) for p in (parts, *others, moved)}) == 5

    def test_are_given_again_for_two_days_and_to_the_same_request_alone(self, cast: Cast) -> None:
        mine: Any = {"tenant_id": cast.tenant.pk, "key": "k"}
        keep_answer(**mine, digest=DIGEST, answer=ANSWER, now=NOW)
        assert earlier_answer(**mine, digest=DIGEST, now=NOW + KEPT) == ANSWER
        theirs = earlier_answer(tenant_id=cast.charlie.tenant.pk, key="k", digest=DIGEST, now=NOW)
        assert theirs is None
        with pytest.raises(ProblemError, match="idempotency-conflict"):
            earlier_answer(**mine, digest=DIGEST[::-1], now=NOW)
        assert earlier_answer(**mine, digest=DIGEST, now=NOW + KEPT + timedelta(seconds=1)) is None

    def test_are_deleted_when_nobody_can_ask_for_them_any_more(self, cast: Cast) -> None:
        for n in range(3):
            keep_answer(
                tenant_id=cast.tenant.pk,
                key=f"k{n}",
                digest=DIGEST,
                answer=ANSWER,
                now=NOW - KEPT - timedelta(hours=n - 1),
            )
        assert prune_answers(now=NOW) >= 1
        kept = IdempotentAnswer.objects.filter(tenant=cast.tenant).order_by("key")
        assert [a.key for a in kept] == ["k0", "k1"]
