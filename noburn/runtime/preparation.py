"""Making the servers ready for the program: reachable, of the right kind, migrated, with prices."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.management import call_command, get_commands

from noburn.runtime.checks import role_faults, server_faults, user_faults
from noburn.runtime.errors import RuntimeProblem

EXTERNAL_WAIT_SECONDS = 30.0
POLL_SECONDS = 0.5


def prepare_servers(*, verbosity: int = 1) -> None:
    """Waits for the servers, migrates as the owner, seeds the price book, and checks. It can be repeated.

    Raises RuntimeProblem, with every fault named.
    """
    _wait_for_owner()
    call_command("migrate", verbosity=0, interactive=False)
    if "prices" in get_commands():
        call_command("prices", "seed", verbosity=0, stdout=_nowhere() if verbosity == 0 else None)
    faults = server_faults(
        app_url=settings.DATABASE_URL,
        gateway_url=settings.DATABASE_GATEWAY_URL,
        redis_url=settings.REDIS_URL,
    )
    users = user_faults(
        redis_url=settings.REDIS_URL,
        gateway_url=settings.REDIS_GATEWAY_URL,
        control_url=settings.REDIS_CONTROL_URL,
    )
    # The web program says the warnings.
    faults += [fault for fault in users if not fault.warning]
    if faults:
        raise RuntimeProblem("\n".join(map(str, faults)))


def _wait_for_owner() -> None:
    # Containers start in any order; a database that is still starting is no fault yet.
    deadline = time.monotonic() + EXTERNAL_WAIT_SECONDS
    while True:
        unreachable = [
            fault
            for fault in role_faults("DATABASE_OWNER_URL", settings.DATABASE_OWNER_URL)
            if fault.unreachable
        ]
        if not unreachable:
            return
        if time.monotonic() > deadline:
            raise RuntimeProblem(str(unreachable[0]))
        time.sleep(POLL_SECONDS)


def _nowhere() -> object:
    import io

    return io.StringIO()
