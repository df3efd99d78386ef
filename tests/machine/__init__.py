"""Random lives of one tenant through the real gateway, sweeper and controller, over real Valkey and PostgreSQL, held step
by step to the truth of the simulator.

    .venv/bin/pytest tests/machine -m soak                  many lives, and every mutant

`life.py` has what may happen, `network.py` what becomes of messages, `mirror.py` shows the real stores to
`tests/simulator/truth.py` as that knows its own models, `mutants.py` alters the real code.
"""
