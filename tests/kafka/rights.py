"""Rights (ACLs) of a test broker: gives them, takes them away, and reads them out of the operator's page.

Must not know Headgate's code: the page is the promise that tests check.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \| (topic|group) `<prefix>\.([\w-]+)` \| ([\w, ]+) \|$", re.MULTILINE)
_RESOURCES: Final = {"topic": 2, "group": 3}
_OPERATIONS: Final = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10,
}  # fmt: skip
_LITERAL: Final = 3
_ALLOW: Final = 3


class Right(NamedTuple):
    """One operation on one resource; `resource` is `topic` or `group`."""

    role: str
    resource: str
    name: str
    operation: str

    def entry(self) -> tuple[Any, ...]:
        """Returns the arguments of the requests that give or delete it."""
        return (
            _RESOURCES[self.resource], self.name, _LITERAL, f"User:{self.role}", "*",
            _OPERATIONS[self.operation], _ALLOW,
        )  # fmt: skip


def rights_on_page(prefix: str) -> list[Right]:
    """Returns every right that the operator's page lists."""
    return [
        Right(role, resource, f"{prefix}.{name}", operation.strip())
        for role, resource, name, operations in _ROW.findall(PAGE.read_text("utf-8"))
        for operation in operations.split(",")
    ]


class _Creations(CreateAclsRequest):  # type: ignore[misc]  # aiokafka ships no type information
    """Several rights in one request: the broker takes some 30 ms for each request."""

    def __init__(self, rights: Iterable[Right]) -> None:
        self._entries = [right.entry() for right in rights]

    def build(self, request_struct_class: Any) -> Any:
        assert request_struct_class.API_VERSION >= 1, "version 0 knows no kinds of patterns"
        return request_struct_class(self._entries)


class Acls:
    """Gives and takes rights, over a listener where everybody may do everything."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> "Acls":
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def give(self, rights: Iterable[Right]) -> None:
        """Adds rights."""
        answer = await self._client._send_to_controller(_Creations(rights))
        assert all(code == 0 for code, *_ in answer.creation_responses), answer

    async def take(self, right: Right) -> None:
        """Removes one right that was given."""
        answer = await self._client._send_to_controller(DeleteAclsRequest(*right.entry()))
        ((code, _, matched),) = answer.filter_responses
        assert code == 0, answer
        assert len(matched) == 1, f"{right} was not given"
