"""Builds what checks the tokens of a process's callers, from the settings."""

from typing import Final

import structlog

from headgate.runtime.jwks import JwksKeys
from headgate.runtime.key_server import KeyServer
from headgate.runtime.ports import Clock, Rng
from headgate.runtime.process import Process
from headgate.runtime.settings import Settings
from headgate.runtime.tokens import Authenticator, TokenKey, weakness

logger = structlog.get_logger("process")

_SECRET_BYTES: Final = 32


class TokenChecks:
    """The authenticators of one process. They share the keys of the key server, which a task of the process fetches."""

    def __init__(self, settings: Settings, process: Process, clock: Clock, rng: Rng) -> None:
        self._settings = settings
        self._process = process
        self._clock = clock
        self._keys: JwksKeys | None = None
        # `dev` is one process: a key that ends with it is enough
        self._ticket_secret = settings.cluster_secret_or_none() or rng.entropy(_SECRET_BYTES)

    def authenticator(self) -> Authenticator:
        """Builds a reader of tokens. Raises BadAuthSettings."""
        auth = self._settings.auth
        secret, second = self._settings.token_secrets()
        for name, value in (("auth.secret", secret), ("auth.secret_second", second)):
            if value and (weak := weakness(value)):
                logger.warning("weak secret", setting=name, why=weak)
        key, keys = TokenKey(secret, auth.issuer, auth.audience, second, auth.token_life_s), self._jwks()
        return Authenticator(auth.mode or "jwt", key, self._clock, keys=keys, ticket_secret=self._ticket_secret)

    def _jwks(self) -> JwksKeys | None:
        url = self._settings.auth.jwks_url
        if url is None or self._settings.auth.mode == "open":
            return None
        if self._keys is None:
            if url.startswith("http:"):
                logger.warning("auth.jwks_url is not https: anybody on the network path to it can make tokens", url=url)
            self._keys = JwksKeys(KeyServer(url), self._clock)
            self._process.task("keys", self._keys.run)
            self._process.checks["keys"] = self._keys.not_ready
        return self._keys
