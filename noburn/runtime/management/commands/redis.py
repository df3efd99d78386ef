"""`manage.py redis users`: the users of the counters on a Redis of your own."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError

from noburn.runtime.redis_users import VARIABLES, fresh_passwords, make_users, rules_of, url_of


class Command(BaseCommand):
    help = "Makes noburn's three users on a Redis of your own, and prints the URLs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        users = actions.add_parser(
            "users",
            help="make the gateway's, the controller's and the management's user, each with a new password; "
            "repeating renews them",
        )
        where = users.add_mutually_exclusive_group(required=True)
        where.add_argument(
            "--admin-url",
            action="append",
            help="an administrator: redis://default:…@host:6379, or redis-cluster://… (all its servers are told); "
            "repeat it for each replica of a single server, since users are not replicated",
        )
        where.add_argument(
            "--show", action="store_true", help="print the rules alone, for an ACL file of your own"
        )
        users.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["show"]:
            for user in VARIABLES.values():
                self.stdout.write(f"user {user} {' '.join(rules_of(user)[1:])} ><password>")
            return
        passwords = fresh_passwords()
        forgetful: list[str] = []
        try:
            make_users(options["admin_url"], passwords, say=forgetful.append)
        except (redis.RedisError, OSError, ValueError) as problem:
            raise CommandError(f"The users were not made: {problem}") from None
        urls = {
            variable: url_of(options["admin_url"][0], user, passwords[user])
            for variable, user in VARIABLES.items()
        }
        for server in forgetful:
            self.stderr.write(
                f"{server} has no ACL file: it forgets these users when it restarts. Give it one (`aclfile`), "
                "or put the lines of `ACL LIST` into its configuration."
            )
        if options["json"]:
            self.stdout.write(json.dumps(urls))
            return
        self.stdout.write("# Keep these; the passwords are shown once.")
        for variable, url in urls.items():
            self.stdout.write(f"{variable}={url}")
