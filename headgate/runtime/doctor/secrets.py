"""Checks of secrets, key servers and what browsers may do: settings that work and can be guessed or are too wide."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from headgate.runtime.findings import Finding, fail, ok, warn
from headgate.runtime.jwks import BadKeySet, keys_in
from headgate.runtime.key_server import KeyServer
from headgate.runtime.setting_types import SettingsGroup
from headgate.runtime.settings import Settings, SettingsError, resolve
from headgate.runtime.tokens import weakness

_FEW: Final = 8  # different characters; 32 random ones have more
_QUOTES: Final = ("'", '"')
_NEW_SECRET: Final = "make one with `openssl rand -base64 32`"  # noqa: S105 - a command


def check_settings(settings: Settings, role: str) -> Finding:
    """Checks that the role would start with these settings."""
    try:
        resolve(settings, role)  # type: ignore[arg-type]  # the command checked the name
    except SettingsError as error:
        return fail(f"settings.{role}", str(error), "change the setting; headgate config shows all of them")
    return ok(f"settings.{role}", "the role starts with these settings")


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Checks the length of secrets and that they are no placeholder."""
    groups: dict[str, SettingsGroup] = {"auth": settings.auth, "cluster": settings.cluster}
    for group, name in (("auth", "secret"), ("auth", "secret_second"), ("cluster", "secret")):
        found = getattr(groups[group], name)
        if found is not None:
            yield check_secret(f"{group}.{name}", found.get_secret_value())
    yield from _check_difference(settings)
    if settings.auth.secret is None and settings.auth.jwks_url is None:
        yield fail("auth.secret", "neither auth.secret nor auth.jwks_url is set", _NEW_SECRET)
    if settings.cluster_secret_or_none() is None:
        yield fail("cluster.secret", "it is not set, and there is no auth.secret to derive it from", _NEW_SECRET)


def check_secret(name: str, value: str) -> Finding:
    """Checks one secret; what it is never shows."""
    weak = weakness(value)
    if weak:
        return fail(name, weak, _NEW_SECRET)
    if value != value.strip() or (value[0] == value[-1] and value[0] in _QUOTES):
        seen = "it begins or ends with white space or a quotation mark, which counts as a part of it"
        return warn(name, seen, "take it away here, or write the same where tokens are made and on every service")
    if len(set(value)) < _FEW:
        return warn(name, f"it has only {len(set(value))} different characters", _NEW_SECRET)
    return ok(name, f"{len(value.encode())} bytes")


def _check_difference(settings: Settings) -> Iterator[Finding]:
    """Checks that no secret stands for two things."""
    first, second = settings.token_secrets()
    if first is not None and first == second:
        seen = "it is the same as auth.secret: tokens of no other secret are accepted"
        yield warn("auth.secret_second", seen, "set it to the secret that was used before, or leave it unset")
    cluster = settings.cluster.secret
    if cluster is not None and cluster.get_secret_value() in (first, second):
        seen = "it is also a secret of tokens: whoever may make tokens can open links as a service"
        yield warn("cluster.secret", seen, _NEW_SECRET)


def check_origins(settings: Settings) -> Iterator[Finding]:
    """Checks which pages of browsers may call."""
    if "*" in (settings.http.origins or ()):
        yield warn("http.origins", "any web page may call with a token that it has", "name the pages")


async def check_keys(settings: Settings) -> AsyncIterator[Finding]:
    """Checks that the key server answers."""
    name, url = "auth.jwks_url", settings.auth.jwks_url
    if url is None:
        return
    try:
        keys = keys_in(await KeyServer(url)())
    except (TimeoutError, OSError, BadKeySet) as error:
        why = str(error) or type(error).__name__
        mend = "check the URL (of the set of keys, not of its issuer), and that this machine reaches it"
        yield fail(name, f"{url} does not answer with keys: {why}", mend)
        return
    if url.startswith("http:"):
        yield warn(name, "it is not https: anybody on the way can make tokens", "use https")
    else:
        yield ok(name, f"{len(keys)} keys")
