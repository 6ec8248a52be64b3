"""The types of settings' values: what each accepts, and one sentence of what it expects where it does not."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from headgate.runtime.http.origins import is_entry
from headgate.runtime.logs.options import parse_url, without_password

_HTTP_URL: Final = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_KEY_URL: Final = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?(\?[^#\s]*)?")


class SettingsGroup(BaseModel):
    """A level of names. Values never change after start; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def is_loopback(host: str) -> bool:
    """Says whether only this machine can reach an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_address(text: str) -> tuple[str, int]:
    """Reads `host:port` or `[ipv6]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or any(c in bare for c in " /@[]"):
        raise ValueError(f"expected host:port, not {without_password(text)!r}")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"expected a port from 1 to 65535 in {without_password(text)!r}")
    return bare, int(port)


def _commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _address(text: str) -> str:
    split_address(text)
    return text


def _origin(text: str) -> str:
    lower = text.lower().rstrip("/")
    if not is_entry(lower):
        raise ValueError(f"expected an origin such as https://app.example.com, not {without_password(text)!r}")
    return lower


def _log_url(text: str) -> str:
    parse_url(text)
    return text


def _key_url(text: str) -> str:
    if _KEY_URL.fullmatch(text) is None:
        raise ValueError("expected https://host/path or http://host/path, without user and password")
    return text


def _http_url(text: str) -> str:
    if _HTTP_URL.fullmatch(text) is None:
        raise ValueError("expected http://host:port or https://host")
    return text.rstrip("/")


def _named(value: Any) -> Any:
    if value == "":
        raise ValueError("must not be empty")
    return value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]  # 0: any free one
Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, BeforeValidator(_named)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_commas), Field(min_length=1)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_commas)]
LogUrl = Annotated[str, AfterValidator(_log_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
KeyUrl = Annotated[str, AfterValidator(_key_url)]
