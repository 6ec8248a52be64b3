"""GET /openapi.json and GET /asyncapi.json: the documents of what is served, made once a process."""

import functools

import msgspec

from headgate.runtime.api.asyncapi import asyncapi_document
from headgate.runtime.api.openapi import openapi_document
from headgate.runtime.http.call import Call, Reply


async def openapi(_call: Call) -> Reply:
    """Answers with the OpenAPI 3.1 document."""
    return Reply(200, _openapi())


async def asyncapi(_call: Call) -> Reply:
    """Answers with the AsyncAPI 3 document."""
    return Reply(200, _asyncapi())


@functools.cache
def _openapi() -> bytes:
    return msgspec.json.encode(openapi_document())


@functools.cache
def _asyncapi() -> bytes:
    return msgspec.json.encode(asyncapi_document())
