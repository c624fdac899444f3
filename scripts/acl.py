r"""Print what a role of contextengine may do on a Redis server, as ACL rules.

Roles: reader (engines that only ask), writer (engines with workers=False), worker (python -m workers, and engines with
workers inside), auditor (who checks the log), custodian (archives and forgets). Give each process the least that it
needs; docs/OPERATIONS.md tells what is left even to the least. Needs Redis 7.0 or newer, or any Valkey.

  python scripts/acl.py writer --namespace app --password-hash "$(printf %s "$PASSWORD" | sha256sum | cut -c1-64)" \
    | redis-cli -h redis.example.org

Exit codes: 0; 2 if an argument cannot be accepted.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

try:
    import typer
    from command import Code, Script
    from options import Namespace

    from eventstore.store import DEFAULT_NAMESPACE
    from projections.redis.roles import ROLES, user_rules
except ImportError as missing:
    sys.exit(f"What scripts need is not installed here ({missing}). Run: pip install '.[scripts]'")

main = Script(__doc__)


@main.command
def rules(
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="ROLE", help="which roles (default: all)", show_default=False)
    ] = None,
    *,
    namespace: Namespace = DEFAULT_NAMESPACE,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="the user's name (default: <namespace>-<role>)")
    ] = None,
    password_hash: Annotated[
        str | None, typer.Option(metavar="SHA256", help="the SHA-256 of the password, in hexadecimal")
    ] = None,
    nopass: Annotated[bool, typer.Option("--nopass", help="let the user in without a password")] = False,
    form: Annotated[
        Literal["commands", "file"],
        typer.Option("--format", help="ACL SETUSER commands for redis-cli, or lines for the file that aclfile names"),
    ] = "commands",
    any_script: Annotated[
        bool,
        typer.Option(
            "--any-script",
            help="do not name this version's scripts one by one, so that an upgrade needs no new rules: a script can "
            "do no more than the user can by itself",
        ),
    ] = False,
) -> int:
    """Print the rules."""
    names = roles or list(ROLES)
    if user is not None and len(names) > 1:
        raise typer.BadParameter("it names one user: name one role as well", param_hint=["--user"])
    if nopass and password_hash is not None:
        raise typer.BadParameter("only one of them can be given", param_hint=["--password-hash", "--nopass"])
    password = "nopass" if nopass else password_hash
    before = "user" if form == "file" else "ACL SETUSER"
    lines = [
        user_rules(role, namespace, f"{namespace}-{role}" if user is None else user, password, any_script=any_script)
        for role in names
    ]
    print("\n".join(f"{before} {line}" for line in lines))
    if password is None:
        print("No password is set: one that a user has stays; a new user cannot log in without.", file=sys.stderr)
    return Code.DONE


if __name__ == "__main__":
    sys.exit(main())
