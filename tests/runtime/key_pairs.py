"""Key pairs of a key server, the tokens they sign, and the documents that publish them (RFC 7517)."""

import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms


def private_key(algorithm: str, number: int = 0, bits: int = 2_048) -> Any:
    """Returns a private key, the same for the same number."""
    return _made(algorithm, number, bits)


@cache
def _made(algorithm: str, number: int, bits: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65_537, bits)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def published(kid: str | None, algorithm: str, number: int = 0, bits: int = 2_048, **more: Any) -> dict[str, Any]:
    """Returns the public half as a key server publishes it."""
    public = private_key(algorithm, number, bits).public_key()
    document: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(public))
    document.pop("key_ops", None)
    return document | ({} if kid is None else {"kid": kid}) | {"use": "sig", "alg": algorithm} | more


def key_set(*documents: Any) -> bytes:
    """Returns a JWKS document."""
    return json.dumps({"keys": documents}).encode()


def public_pem(algorithm: str) -> bytes:
    """Returns the public half as PEM text, as anybody can make it."""
    pem: bytes = (
        private_key(algorithm)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem


def signed(claims: dict[str, Any], algorithm: str, number: int = 0, **header: Any) -> str:
    """Returns a token that the private half signed; members of `header` that are None are left out."""
    kept = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(claims, private_key(algorithm, number), algorithm=algorithm, headers=kept)
