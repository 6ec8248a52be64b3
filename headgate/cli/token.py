"""`headgate token`: makes bearer tokens from `auth.secret`, and revokes tokens over HTTP."""

import time
from typing import Annotated, Any, Final

import msgspec
import typer

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, WrongCommand, needs_command, of
from headgate.cli.output import Output, fields, say
from headgate.core.wire.rights import Caller

app = typer.Typer(help="Makes and revokes bearer tokens.")
app.callback(invoke_without_command=True)(needs_command)

USUAL_LIFE_S: Final = 3_600.0
Patterns = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="A topic id, or a prefix and *.")]


@app.command()
def mint(
    context: typer.Context,
    *,
    sub: Annotated[str, typer.Option(metavar="USER", help="The user the token is for.")],
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long it is valid, else 3600, or auth.token_life_s where it is shorter.",
            show_default=False,
        ),
    ] = None,
    publish: Patterns = None,
    subscribe: Patterns = None,
    admin: Annotated[bool, typer.Option("--admin", help="Every right.")] = False,
    only: Annotated[bool, typer.Option("--only", help="The patterns are its only rights.")] = False,
    service: Annotated[bool, typer.Option("--service", help="No publish rates, no limit of connections.")] = False,
    jti: Annotated[
        str | None, typer.Option(metavar="ID", help="Its id, so that it can be revoked alone.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Prints a token signed with auth.secret."""
    auth = of(context).settings().auth
    if auth.secret is None:
        raise WrongCommand(
            "headgate token mint needs auth.secret (HEADGATE_AUTH__SECRET or HEADGATE_AUTH__SECRET_FILE)"
        )
    ttl_s = _life_s(ttl, auth.token_life_s)
    from headgate.runtime.tokens import BadAuthSettings, TokenKey  # noqa: PLC0415  PyJWT costs every other command 0.15 s
    from headgate.runtime.tokens import mint as sign  # noqa: PLC0415

    rights: dict[str, Any] = {"publish": tuple(publish or ()), "subscribe": tuple(subscribe or ())}
    rights |= {"admin": admin, "only": only, "service": service}
    key = TokenKey(auth.secret.get_secret_value(), auth.issuer, auth.audience)
    try:
        text = sign(key, Caller(sub, **rights), now_s=time.time(), ttl_s=ttl_s, jti=jti)
    except BadAuthSettings as error:
        raise WrongCommand(str(error)) from None
    except ValueError as error:
        raise WrongCommand(f"--{error}") from None
    kept = {name: value for name, value in (rights | {"jti": jti}).items() if value}
    shown = msgspec.json.encode({"token": text, "sub": sub, "expires_in": ttl_s, **kept}).decode() if as_json else text
    say(shown)
    return 0


@app.command()
def revoke(
    context: typer.Context,
    *,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="The user whose tokens are revoked.", show_default=False)
    ] = None,
    jti: Annotated[
        str | None, typer.Option(metavar="ID", help="The id of the one token that is revoked.", show_default=False)
    ] = None,
    not_before: Annotated[
        int | None,
        typer.Option(
            metavar="MS", help="Tokens issued before this Unix millisecond are void, else now.", show_default=False
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Revokes the tokens of a user, or one token, and ends their streams. Needs a token with the claim admin."""
    if (user is None) == (jti is None):
        raise WrongCommand("headgate token revoke needs either --user or --jti")
    named: dict[str, Any] = {"user_id": user} if user is not None else {"jti": jti}
    named |= {} if not_before is None else {"not_before": not_before}
    settings = of(context).settings({"client.url": url, "client.token": token})
    with Client.of(settings) as client:
        accepted(client.post("/api/v1/revocations", msgspec.json.encode(named)))
    Output(as_json).item({**named, "revoked": True}, lambda _: fields((user or jti, "bold"), ("revoked", "red")))
    return 0


def _life_s(asked: float | None, longest: float | None) -> float:
    """Returns the seconds that a token is valid. Raises WrongCommand for what a server would refuse."""
    if asked is None:
        return USUAL_LIFE_S if longest is None else min(USUAL_LIFE_S, longest)
    if not 0 < asked < 1e10:
        raise WrongCommand("--ttl is a number of seconds above 0")
    if longest is not None and asked > longest:
        raise WrongCommand(f"--ttl is at most {longest:g} (auth.token_life_s)")
    return asked
