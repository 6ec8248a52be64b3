"""Reads the settings: flag, then environment, then TOML file, then default."""

import difflib
import hmac
import socket
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, PrivateAttr, SecretStr, ValidationError

from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.records import LogName
from headgate.core.wire.topic_settings import hot_exit_below, usual_with
from headgate.runtime.http.origins import LOOPBACK
from headgate.runtime.logs.options import LogOptions, without_password
from headgate.runtime.setting_types import is_loopback
from headgate.runtime.settings_model import Model
from headgate.runtime.sockets import ANY

Role = Literal["dev", "ingest", "dispatcher", "gateway", "init", "canary"]
ENV_PREFIX: Final = "HEADGATE_"
MASK: Final = "****"
_FILE_SUFFIX: Final = "_file"
MIN_SECRET_BYTES: Final = 32  # RFC 7518 section 3.2: a key of at least the hash's size; a shorter one can be guessed
_NOT_BUILT: Final = ("gateway.publish",)


class SettingsError(HeadgateError):
    """A setting that cannot be used; the message is one line for a person."""


class Settings(Model):
    """The settings in use, each with its source."""

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    def source(self, name: str) -> str:
        """Returns where a setting's value is from: `flag`, `env`, `file` or `default`."""
        return self._sources.get(name, "default")

    def report(self) -> list[dict[str, Any]]:
        """Returns every setting that has an effect as `{name, value, source}`, secrets masked, values fit for JSON."""
        shown = (name for name in NAMES if name not in _NOT_BUILT)
        return [{"name": n, "value": _plain(_get(self, n)), "source": self.source(n)} for n in shown]

    @property
    def stream_url(self) -> str:
        """The URL of the gateway for commands."""
        return self.client.stream_url or self.client.url

    def log_options(self) -> LogOptions:
        """Returns the options of the log adapter. The settings must be resolved, or `log.url` set."""
        log = self.log
        if log.url is None:
            raise SettingsError("log.url is not set; it is memory:, sqlite:PATH or kafka://host:port,host:port")
        keep_ms = {
            LogName.MESSAGES: log.retention_ms,
            LogName.INBOX: log.retention_ms,
            LogName.DEAD_LETTERS: log.dead_letters_retention_ms,
        }
        return LogOptions(
            log.url,
            log.prefix,
            log.shards,
            log.replication,
            log.memory_bytes,
            keep_ms,
            log.security.options(),
            keep_bytes=log.retention_bytes,
        )

    def token_secrets(self) -> tuple[str | None, str | None]:
        """Returns the secret that signs tokens and the one that is accepted beside it."""
        return _text(self.auth.secret), _text(self.auth.secret_second)

    def cluster_secret(self) -> bytes:
        """Returns the key of the links between services. Raises SettingsError without it and without `auth.secret`."""
        secret = self.cluster_secret_or_none()
        if secret is None:
            raise SettingsError("set cluster.secret (or auth.secret, from which it is derived)")
        return secret

    def cluster_secret_or_none(self) -> bytes | None:
        """Returns the key of the links between services, None where there is nothing to derive it of."""
        if self.cluster.secret is not None:
            return self.cluster.secret.get_secret_value().encode()
        if self.auth.secret is None:
            return None
        return hmac.digest(self.auth.secret.get_secret_value().encode(), b"headgate cluster 1", "sha256")

    def usual_of_topics(self) -> dict[str, Any]:
        """Returns the settings of a topic that names none."""
        hot_exit = _or(self.hot.exit, hot_exit_below(self.hot.enter))
        return usual_with(self.hot.enter, hot_exit, self.limits.publish_per_topic_per_s)

    def topic_id_key(self) -> bytes:
        """Returns the key of made topic ids, the same on every ingest; empty where there is no secret."""
        secret = self.cluster_secret_or_none()
        return b"" if secret is None else hmac.digest(secret, b"headgate topic ids 1", "sha256")


def load(flags: Mapping[str, str], config_path: str | Path | None, environ: Mapping[str, str]) -> Settings:
    """Merges all sources and validates. `flags` maps dotted names to texts. Raises SettingsError."""
    values: dict[str, Any] = {}
    origin: dict[str, tuple[str, str]] = {}  # name -> source, and how the person wrote it
    for source, written, name, value in _all(flags, config_path, environ):
        known = _known(name, written)
        in_file = known not in _KINDS
        target = known.removesuffix(_FILE_SUFFIX) if in_file else known
        earlier = origin.get(target)
        if earlier is not None and earlier[0] == source:
            raise SettingsError(f"{written} and {earlier[1]} set the same setting; keep one")
        values[target] = _read_secret(written, value) if in_file else value
        origin[target] = (source, written)
    settings = _validated(values, origin)
    settings._sources.update({name: source for name, (source, _) in origin.items()})
    for name in _NOT_BUILT:
        if name in origin and _get(settings, name) is not False:
            raise SettingsError(f"{origin[name][1]}: {name} is not built yet; leave it unset")
    return settings


def resolve(settings: Settings, role: Role) -> Settings:
    """Returns the settings with the role's own defaults filled in. Raises SettingsError for what the role refuses."""
    local = role == "dev" and is_loopback(settings.dev.host)
    _check_log(settings, role)
    updates: dict[str, dict[str, Any]] = {
        "auth": {"mode": _auth_mode(settings, role, local)},
        "topics": {"auto_create": _or(settings.topics.auto_create, role == "dev")},
        "http": {"origins": _or(settings.http.origins, (LOOPBACK,) if role == "dev" else ())},
        "admin": {"host": _or(settings.admin.host, _admin_host(settings, role))},
        "hot": {"exit": _or(settings.hot.exit, hot_exit_below(settings.hot.enter))},
    }
    if role == "dev" and settings.dev.data is not None and settings.source("dispatcher.data") == "default":
        updates["dispatcher"] = {"data": settings.dev.data}
    if role == "dev":
        updates["log"] = {"url": _or(settings.log.url, _dev_log(settings.dev.data))}
    groups = {name: getattr(settings, name).model_copy(update=update) for name, update in updates.items()}
    resolved = settings.model_copy(update=groups)
    if role in ("ingest", "dispatcher", "gateway"):
        resolved.cluster_secret()
        _check_secrets(resolved, role)
    return resolved


def advertised(settings: Settings, port: int) -> str:
    """Returns the address a dispatcher gives to others; `port` is the one it listens on."""
    if settings.dispatcher.advertise is not None:
        return settings.dispatcher.advertise
    name = socket.gethostname()
    if is_loopback(settings.dispatcher.host) or not resolves(name):
        name = "127.0.0.1"
    return f"{name}:{port}"


def nearest(name: str, known: list[str]) -> str:
    """Returns the known name most like a wrong one."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _names(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def _is_secret(kind: Any) -> bool:
    return kind is SecretStr or any(_is_secret(part) for part in get_args(kind))


_KINDS: Final = dict(_names(Model))
NAMES: Final = tuple(_KINDS)
SECRET_FILES: Final = tuple(name + _FILE_SUFFIX for name, kind in _KINDS.items() if _is_secret(kind))
_KNOWN: Final = [*NAMES, *SECRET_FILES]

Entry = tuple[str, str, str, Any]  # source, how it was written, dotted name, value


def _all(flags: Mapping[str, str], config_path: str | Path | None, environ: Mapping[str, str]) -> Iterator[Entry]:
    """Yields every entry of every source, the weakest source first."""
    if config_path is not None:
        yield from _from_file(Path(config_path))
    for key, text in sorted(environ.items()):
        if key.startswith(ENV_PREFIX) and "__" in key:
            name = key.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            _known(name, key)
            if text:  # an empty variable is an unset one: compose files and charts write them so
                yield "env", key, name, text
    for name, text in flags.items():
        yield "flag", f"--{name}", name, text


def _from_file(path: Path) -> Iterator[Entry]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    for name, value in _flatten(table, ""):
        yield "file", f"{name} in {path}", name, value


def _flatten(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in _KINDS:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _known(name: str, written: str) -> str:
    if name in _KINDS or name in SECRET_FILES:
        return name
    best = nearest(name, _KNOWN)
    if written.startswith(ENV_PREFIX):
        variable = ENV_PREFIX + best.upper().replace(".", "__")
        raise SettingsError(f"unknown setting {written}; the nearest known one is {variable} ({best})")
    raise SettingsError(f"unknown setting {written}; the nearest known one is {best}")


def _read_secret(written: str, path: Any) -> str:
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, TypeError, ValueError):
        raise SettingsError(f"{written}: cannot read the file {path}") from None
    if not text:
        raise SettingsError(f"{written}: the file {path} is empty")
    return text


def _validated(values: dict[str, Any], origin: dict[str, tuple[str, str]]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *groups, leaf = name.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[leaf] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_first_line(error, values, origin)) from None


def _first_line(error: ValidationError, values: dict[str, Any], origin: dict[str, tuple[str, str]]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    parts = [str(part) for part in first["loc"]]
    name = next((n for n in (".".join(parts[:i]) for i in range(len(parts), 0, -1)) if n in _KINDS), ".".join(parts))
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "too_short":
        text = "must not be empty"
    elif first["type"] != "value_error" and name in _KINDS and not _is_secret(_KINDS[name]):
        text = f"{text[:1].lower()}{text[1:]}, not {without_password(str(values.get(name)))!r}"
    return f"{origin.get(name, ('', name))[1]}: {text}"


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _get(settings: BaseModel, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str):
        return without_password(value)
    return str(value) if isinstance(value, Path) else value


def _check_log(settings: Settings, role: Role) -> None:
    is_kafka = (settings.log.url or "").startswith("kafka://")
    if settings.log.retention_bytes is not None and not is_kafka and role not in ("gateway", "canary"):
        raise SettingsError(
            "log.retention_bytes is for Kafka; log.retention_ms and log.memory_bytes bound embedded logs"
        )
    if role in ("dev", "gateway", "canary") or is_kafka:
        return
    seen = f"is {without_password(settings.log.url)}" if settings.log.url else "is not set"
    raise SettingsError(f"headgate {role} needs log.url kafka://host:port,... and it {seen}; headgate dev embeds a log")


def _dev_log(data: Path | None) -> str:
    return "memory:" if data is None else f"sqlite:{data / 'log.db'}"


def _admin_host(settings: Settings, role: Role) -> str:
    hosts = {
        "ingest": settings.ingest.host,
        "dispatcher": settings.dispatcher.host,
        "gateway": settings.gateway.host,
        "canary": ANY,
    }
    return hosts.get(role, "127.0.0.1")


def _auth_mode(settings: Settings, role: Role, local: bool) -> str:
    auth = settings.auth
    if role in ("init", "canary"):
        return auth.mode or "jwt"
    if auth.mode == "open" and not local:
        raise SettingsError(
            f"auth.mode=open is refused, {_why_jwt(settings, role)}; set auth.secret or auth.jwks_url instead"
        )
    without_keys = auth.secret is None and auth.jwks_url is None
    if auth.mode is None and local and without_keys:
        return "open"
    if auth.mode != "open" and without_keys and role != "dispatcher":
        raise SettingsError(f"headgate {role} needs auth.secret or auth.jwks_url: {_why_jwt(settings, role)}")
    return auth.mode or "jwt"


def _check_secrets(settings: Settings, role: Role) -> None:
    """A role that others reach refuses to start with a key that can be guessed; `dev` warns and starts."""
    for name in ("auth.secret", "auth.secret_second", "cluster.secret"):
        secret: SecretStr | None = _get(settings, name)
        size = MIN_SECRET_BYTES if secret is None else len(secret.get_secret_value().encode())
        if size < MIN_SECRET_BYTES:
            raise SettingsError(f"headgate {role} needs {name} of {MIN_SECRET_BYTES} bytes or more; it has {size}")


def _why_jwt(settings: Settings, role: Role) -> str:
    if role != "dev":
        return "it checks the tokens of callers on other machines"
    if is_loopback(settings.dev.host):
        return "auth.mode is jwt"
    return f"dev.host {settings.dev.host} can be reached from other machines"


def resolves(name: str) -> bool:
    """Returns whether a host's name has an address here; asks the name server."""
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True
