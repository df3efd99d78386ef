"""Tells what happens to holds as a script with outcomes, and holds the real money path to it.

    budget acme $1.00
    hold   h1   $0.40 -> held, remaining $0.60
    settle h1   $0.25 -> settled, remaining $0.75

A line is a verb, its words and, after `->`, what comes of it, part by part. Holds belong to the customer after
`for`, else to the first budget's. `expire` sets a hold's expiry back; `lose-redis` is a kill -9 with recovery.
At the end every figure must be exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noburn.kit.money import to_usd
from tests.support.asgi import Answer
from tests.support.world import Account, usd


class Story:
    """One story, told about one tenant."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.holds: dict[str, Answer] = {}
        self.customers: dict[str, str] = {}
        self.told: list[str] = []
        self._verbs: dict[str, Callable[[list[str]], tuple[str, Answer | None]]] = {
            "budget": self._budget,
            "limit": self._limit,
            "hold": self._hold,
            "settle": self._settle,
            "lose": self._lose,
            "void": self._void,
            "extend": self._extend,
            "expire": self._expire,
            "sweep": self._sweep,
            "lose-redis": self._lose_redis,
            "close-epoch": self._close_epoch,
            "show": self._show,
        }

    def tell(self, text: str) -> Story:
        """Plays every line. Raises AssertionError with the story so far where it goes another way."""
        for line in filter(None, map(str.strip, text.splitlines())):
            said, _, expected = (part.strip() for part in line.partition("->"))
            verb, *words = said.split()
            self._subject = words[0] if words else ""
            outcome, answer = self._verbs[verb](words)
            parts = [part.strip() for part in expected.split(",")] if expected else []
            actual = [
                outcome if i == 0 and not self._names_fact(part) else self._fact(part, answer)
                for i, part in enumerate(parts)
            ]
            self.told.append(f"{said} -> {', '.join(actual)}" if actual else said)
            assert actual == parts, "\n".join([*self.told, f"  expected: {expected}", f"  answer: {answer}"])
        difference = self.account.verify().differences
        assert not difference, "\n".join([*self.told, *map(str, difference)])
        return self

    @staticmethod
    def _names_fact(part: str) -> bool:
        return part.split()[0] in ("remaining", "spent", "stranded")

    def _fact(self, part: str, answer: Answer | None) -> str:
        word = part.split()[0]
        name = self.customers.get(self._subject, self._subject)
        if word == "remaining":
            return f"remaining {self._shown(name, self.account.remaining(name))}"
        if word in ("spent", "stranded"):
            return f"{word} {self._shown(name, self.account.counter(name)[word])}"
        assert answer is not None, f"{part!r} is told of an answer"
        if word in ("overrun", "released"):
            return f"{word} {_dollars(usd(answer[f'{word}_usd']))}"
        if word in ("late", "replayed"):
            return word if answer[word] else f"not {word}"
        if word == "fits":
            return f"fits {answer['fits_max_output_tokens']}"
        if word == "warned":
            return "warned" if any("would have refused" in w for w in answer["warnings"]) else "not warned"
        raise AssertionError(f"no fact is called {word!r}")

    def _shown(self, name: str, amount: Any) -> str:
        return _dollars(amount) if self.account.budgets[name].metric == "usd" else str(amount)

    def _budget(self, words: list[str]) -> tuple[str, None]:
        name, limit, *rest = words
        fields: dict[str, Any] = {}
        if not limit.startswith("$"):
            fields["metric"] = rest.pop(0)
        fields |= dict(pair.split("=", 1) for pair in rest)
        self.account.budget(name, limit if limit.startswith("$") else int(limit), **fields)
        return "made", None

    def _limit(self, words: list[str]) -> tuple[str, None]:
        name, limit = words
        self.account.limit(name, limit if limit.startswith("$") else int(limit))
        return "set", None

    def _hold(self, words: list[str]) -> tuple[str, Answer]:
        name, amount, *rest = words
        customer = rest[1] if rest[:1] == ["for"] else next(iter(self.account.budgets))
        answer = self.account.place(amount, customer=customer)
        if answer.decision == "allow":
            self.holds[name] = answer
        self.customers[name] = customer
        return {"allow": "held"}.get(answer.decision, f"denied {answer.decision}"), answer

    def _resolved(self, answer: Answer) -> tuple[str, Answer]:
        return answer["state"] if answer.status == 200 else answer.kind, answer

    def _settle(self, words: list[str]) -> tuple[str, Answer]:
        name, amount = words
        return self._resolved(self.account.settle(self.holds[name], amount))

    def _lose(self, words: list[str]) -> tuple[str, Answer]:
        return self._resolved(self.account.settle(self.holds[words[0]]))

    def _void(self, words: list[str]) -> tuple[str, Answer]:
        return self._resolved(self.account.void(self.holds[words[0]]))

    def _extend(self, words: list[str]) -> tuple[str, Answer]:
        answer = self.account.extend(self.holds[words[0]], int(words[1]))
        return "extended" if answer.status == 200 else answer.kind, answer

    def _expire(self, words: list[str]) -> tuple[str, None]:
        # What other tests left to expire is none of this story's.
        self.account.world.sweep()
        self.account.expire(self.holds[words[0]])
        return "expired", None

    def _sweep(self, _words: list[str]) -> tuple[str, None]:
        return f"presumed {self.account.world.sweep().presumed}", None

    def _lose_redis(self, _words: list[str]) -> tuple[str, None]:
        self.account.world.lose_redis()
        return f"opened {self.account.world.recover()}", None

    def _close_epoch(self, _words: list[str]) -> tuple[str, None]:
        world = self.account.world
        # Other tenants of this process may share the shard: only this one's counters are told of.
        answered = "SELECT count(*) FROM grants WHERE tenant_id = %s AND state = 'retired' AND answered_at IS NOT NULL"
        ((before,),) = world.sql(answered, self.account.tenant_id)
        world.run(world.operations.close(self.account.shard))
        ((after,),) = world.sql(answered, self.account.tenant_id)
        return f"retired {after - before}", None

    def _show(self, _words: list[str]) -> tuple[str, None]:
        return "", None


def _dollars(nano: int) -> str:
    text = to_usd(nano)
    whole, _, places = text.partition(".")
    return f"${whole}.{places:0<2}"
