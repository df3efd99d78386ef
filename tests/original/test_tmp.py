import pytest
pytestmark = pytest.mark.real_db
def test_x(alice):
    from datetime import UTC, datetime
    book = alice.world.app._plane.books.book
    r = book.resolve(None, "text-embedding-3-small", datetime.now(UTC))
    print(repr(r)[:500])
    from budgets.domain.pricing import cost_nano
    from budgets.domain.pricing_rates import Usage
    try: print(cost_nano(r, Usage(input_tokens=10)))
    except Exception as e: print(repr(e))
    from budgets.domain.pricing_settled import settled_cost
    print(alice.place(model="text-embedding-3-small", input_tokens=10).body)
