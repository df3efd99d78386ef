"""A noburn in memory, for tests of programs that use this SDK: no server, no socket, no file.

def test_refuses_acme(noburn_plane):                     # a fixture of the pytest plugin that comes with the SDK
    noburn_plane.budget("customer", "acme", "0.01")
    with pytest.raises(noburn_sdk.BudgetExceededError):
        answer_question("long …", customer="acme")
    assert noburn_plane.refusals[0].reason == "budget_exceeded"

It decides by amounts alone and is no model of noburn's windows, grants or guards. Whatever the SDK does around a
call is real: estimates, caps, settling in the background, errors.
"""

from noburn_sdk.testing.plane import Decision, MemoryGate, MemoryPlane, Settlement

__all__ = ["Decision", "MemoryGate", "MemoryPlane", "Settlement"]
