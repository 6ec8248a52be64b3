"""Signs the tokens of the vectors (RFC 7519, HS256) with the standard library alone; knows nothing of Headgate."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Final

SECRET: Final = "vectors-only-0123456789abcdef0123456789abcdef"


def sign(spec: dict[str, Any], sub: str) -> str:
    """Returns the token that a vector describes: `exp_in` (null: no exp), `alg`, `secret`, `claims`, or `raw`."""
    if "raw" in spec:
        return str(spec["raw"])
    claims: dict[str, Any] = {"sub": sub, **spec.get("claims", {})}
    if spec.get("sub", "") is None:
        del claims["sub"]
    exp_in = spec.get("exp_in", 300)
    if exp_in is not None:
        claims["exp"] = time.time() + exp_in
    alg = spec.get("alg", "HS256")
    signed = f"{_part({'alg': alg, 'typ': 'JWT'})}.{_part(claims)}"
    if alg == "none":
        return f"{signed}."
    digest = hmac.new(spec.get("secret", SECRET).encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_text(digest)}"


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
