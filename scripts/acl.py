r"""Print what a role of contextengine may do on a Redis server, as ACL rules.

Roles: reader (engines that only ask), writer (engines with workers=False), worker (python -m workers, and engines with
workers inside), auditor (who checks the log), custodian (archives and forgets). Give each process the least that it
needs; docs/OPERATIONS.md tells what is left even to the least. Needs Redis 7.0 or newer, or any Valkey.

  python scripts/acl.py writer --namespace app --password-hash "$(printf %s "$PASSWORD" | sha256sum | cut -c1-64)" \
    | redis-cli -h redis.example.org
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

try:
    from eventstore import ContextEngineError
    from eventstore.store import DEFAULT_NAMESPACE
    from projections.redis.roles import ROLES, user_rules
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rules.

    Returns:
        0; 2 if an argument cannot be accepted.
    """
    options = _options(arguments)
    roles = options.role or list(ROLES)
    if options.user is not None and len(roles) > 1:
        print("--user names one user: name one role as well.", file=sys.stderr)
        return 2
    password = "nopass" if options.nopass else options.password_hash
    before = "user" if options.format == "file" else "ACL SETUSER"
    try:
        lines = [
            user_rules(
                role,
                options.namespace,
                f"{options.namespace}-{role}" if options.user is None else options.user,
                password,
                any_script=options.any_script,
            )
            for role in roles
        ]
    except ContextEngineError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(f"{before} {line}" for line in lines))
    if password is None:
        print("No password is set: one that a user has stays; a new user cannot log in without.", file=sys.stderr)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="*", metavar="ROLE", help="default: all")
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="the engine's namespace (default: %(default)s)")
    parser.add_argument("--user", help="the user's name (default: <namespace>-<role>)")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--password-hash", metavar="SHA256", help="the SHA-256 of the password, in hexadecimal")
    secret.add_argument("--nopass", action="store_true", help="let the user in without a password")
    parser.add_argument(
        "--format",
        choices=["commands", "file"],
        default="commands",
        help="ACL SETUSER commands for redis-cli, or lines for the file that aclfile names (default: %(default)s)",
    )
    parser.add_argument(
        "--any-script",
        action="store_true",
        help="do not name this version's scripts one by one, so that an upgrade needs no new rules: a script can do no "
        "more than the user can by itself",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
