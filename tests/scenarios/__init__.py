"""Traffic as it happens, good and bad, made anew and always the same: what guards are tried on before real calls are.

`python -m tests.scenarios` replays all of it under the recommended guards and writes what came of it into docs/guards.md.
"""
