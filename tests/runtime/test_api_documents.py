"""The OpenAPI and AsyncAPI documents: they describe what is served, no more and no less."""

import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from headgate.core.client import inbound
from headgate.core.client.outbound import CLOSE_REASONS
from headgate.core.wire.errors import CODES
from headgate.core.wire.member_roles import ANYONE, Role
from headgate.runtime.api import value_types
from headgate.runtime.api.asyncapi import asyncapi_document
from headgate.runtime.api.client_frames import CLIENT_FRAMES
from headgate.runtime.api.openapi import openapi_document
from headgate.runtime.api.operations import OPERATIONS
from headgate.runtime.api.server_frames import SERVER_FRAMES, SSE_EVENTS
from headgate.runtime.http.endpoints import ENDPOINTS

DOCUMENTS = {"openapi": openapi_document(), "asyncapi": asyncapi_document()}


def tags(types: tuple[type[msgspec.Struct], ...]) -> set[Any]:
    return {type_.__struct_config__.tag for type_ in types}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_endpoint_has_an_operation_and_every_operation_an_endpoint() -> None:
    served = {row.handler for row in ENDPOINTS if row.role != "admin" and row.handler and row.answer.status != 307}
    assert served == set(OPERATIONS)


def test_every_path_and_method_is_described() -> None:
    paths = DOCUMENTS["openapi"]["paths"]
    rows = {(row.path, row.method.lower()) for row in ENDPOINTS if row.role != "admin" and not row.is_websocket}
    assert {(path, method) for path, methods in paths.items() for method in methods} == rows


def test_operation_ids_differ() -> None:
    ids = [row["operationId"] for methods in DOCUMENTS["openapi"]["paths"].values() for row in methods.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_reference_has_a_target(name: str) -> None:
    for reference in references(DOCUMENTS[name]):
        target = DOCUMENTS[name]
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target, reference


def test_every_code_is_documented_once_per_operation() -> None:
    for operation in OPERATIONS.values():
        assert set(operation.codes) <= set(CODES), operation.name
        assert len(set(operation.codes)) == len(operation.codes), operation.name


def test_a_body_has_a_type_where_the_endpoint_takes_one() -> None:
    for row in ENDPOINTS:
        operation = OPERATIONS.get(row.handler)
        if operation is not None:
            assert row.body is not None or operation.body is None, row
            assert (row.answer.media_type != "" and not row.is_stream) == (operation.answer is not None), row


def test_the_frames_of_a_client_are_those_that_are_read() -> None:
    assert tags(CLIENT_FRAMES) == set(inbound._READERS)


def test_events_are_frames() -> None:
    assert set(SSE_EVENTS) < set(SERVER_FRAMES)


def test_close_codes_are_within_the_described_range() -> None:
    assert all(4400 <= code <= 4699 for code in CLOSE_REASONS)


@pytest.mark.parametrize(
    ("described", "known"),
    [
        (value_types.PermissionsName, set(ANYONE)),
        (value_types.RoleName, {role.value for role in Role}),
    ],
)
def test_described_values_are_the_known_ones(described: Any, known: set[str]) -> None:
    assert set(get_args(described)) == known


def test_the_bounds_of_ids_are_those_that_are_checked() -> None:
    (topic_id,) = msgspec.json.schema_components([value_types.TopicIdText])[0]
    assert re.fullmatch(topic_id["pattern"], "a" * 128)
    assert not re.fullmatch(topic_id["pattern"], "a" * 129)
    assert get_type_hints(value_types.AttachmentItem)["url"] is str
