"""A deterministic model of the escrow in docs/escrow.md, run through weighted random schedules of faults.

    python -m tests.simulator --seeds 5000            the specification, which must hold
    python -m tests.simulator --mutant all            each altered rule, which must be caught
    python -m tests.simulator --trace 17 --mutant X   one schedule, step by step

`postgres.py` and `redis.py` model the two stores, `actors.py` the processes that talk to them, `world.py` the
network, the crashes and the schedule, `truth.py` what really happened, known to nobody else, and the invariants.
"""
