"""Topics over HTTP: create, show, list, delete. A change is a control record; its owner's verdict is the answer."""

import base64
import binascii
from collections import OrderedDict
from datetime import UTC, datetime
from heapq import merge
from typing import Any, Final

from headgate.core.publish.body import check_client_msg_id
from headgate.core.wire import rights, topic_settings
from headgate.core.wire.control import CreateTopic, DeleteTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import AskTopics, TopicInfo, TopicsAnswer
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code
from headgate.runtime.http.call import NO_CONTENT, Call, Reply, reply
from headgate.runtime.http.queries import MAX_PAGE, page_limit
from ingest.access import Access, role_in
from ingest.catalog import Catalog
from ingest.controls import ControlOutcome, Controls
from ingest.owners import OwnerQueries
from ingest.rates import Rates
from ingest.topic_ids import TopicIds

MAX_NAME: Final = 256
LISTED: Final = 2_000  # topics that one page asks of all shards together, at least one of each
_OF_CREATION: Final = ("topic_id", "name", "permissions", "owner_id", "created_at", "settings", "epoch")
MAX_DELETES: Final = 10_000  # deletes with an Idempotency-Key that are remembered


class TopicHandlers:
    """The handlers of `/api/v1/topics` and `/api/v1/topics/{topic_id}`, and creation by a first publish."""

    def __init__(
        self,
        *,
        access: Access,
        catalog: Catalog,
        controls: Controls,
        owners: OwnerQueries,
        rates: Rates,
        ids: TopicIds,
    ) -> None:
        self._access = access
        self._catalog = catalog
        self._controls = controls
        self._owners = owners
        self._rates = rates
        self._ids = ids
        self._deleted: OrderedDict[bytes, None] = OrderedDict()  # deletes that carried an Idempotency-Key, oldest first

    async def create(self, call: Call) -> Reply:
        """POST /api/v1/topics."""
        creation = self._creation(call)
        self._rates.create(call.caller)
        return reply(created(await self._create(call.caller, creation, call.idempotency_key)), 201)

    async def show(self, call: Call) -> Reply:
        """GET /api/v1/topics/{topic_id}."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        self._rates.read(call.caller)
        info = await self._catalog.fetch(topic_id)
        role = role_in(info, call.caller)
        rights.require(rights.may_inspect(call.caller, info, role), call.caller, info, role, "see")
        return reply(shown(info))

    async def remove(self, call: Call) -> Reply:
        """DELETE /api/v1/topics/{topic_id}."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        record_id = self._controls.id_of("delete", topic_id, call.caller, call.idempotency_key)
        if record_id in self._deleted:
            return NO_CONTENT
        info = await self._access.require(topic_id, call.caller, rights.may_administer, "delete")
        _check_key(call)
        outcome = await self._controls.change(topic_id, DeleteTopic(topic_id), info.epoch, record_id)
        self._catalog.drop(topic_id)
        if outcome.verdict.code == Code.UNKNOWN:
            raise Refusal("outcome_unknown", "the topic's owner no longer knows what became of the record")
        if outcome.verdict.code != Code.DELETED:
            raise rights.unknown_topic(topic_id)
        if call.idempotency_key is not None:
            self._deleted[record_id] = None
            if len(self._deleted) > MAX_DELETES:
                self._deleted.popitem(last=False)
        return NO_CONTENT

    async def listed(self, call: Call) -> Reply:
        """GET /api/v1/topics: a page of the topics that the caller may see, ascending by id over all shards."""
        limit = page_limit(call.query)
        prefix = call.query.get("prefix", "")
        after = _read_page(call.query.get("page"))
        self._rates.read(call.caller)
        # One more than are shown: its presence tells that the page is not the last.
        per_shard = min(limit, MAX_PAGE - 1, -(-LISTED // max(1, self._owners.shards))) + 1
        answers = await self._owners.ask_all(
            lambda req, shard: AskTopics(req, shard, call.caller, prefix, after, per_shard)
        )
        chunks = [answer.topics for answer in answers if isinstance(answer, TopicsAnswer)]
        # The shard of a full chunk may have more topics above its last: the page ends at the lowest such id.
        ends = [chunk[-1].topic_id for chunk in chunks if len(chunk) >= per_shard]
        known = list(merge(*chunks, key=lambda info: info.topic_id))
        page = [info for info in known if not ends or info.topic_id <= min(ends)][:limit]
        more = bool(ends) or len(known) > len(page)
        following = _write_page(page[-1].topic_id) if page and more else None
        return reply({"topics": [shown(info) for info in page], "next_page": following})

    async def make(self, topic_id: str, caller: Caller) -> TopicInfo:
        """Creates a public, durable topic for its first publish, or finds that another caller just did.

        The user's rates, of publishes too, are taken first. Raises Refusal.
        """
        self._rates.publish_and_create(caller)
        creation = CreateTopic(topic_id, topic_id, "PUBLIC", caller.user_id)
        record_id = self._controls.id_of("create", topic_id, caller, None)
        await self._controls.change(topic_id, creation, 0, record_id)
        info = await self._catalog.fetch(topic_id)
        role = role_in(info, caller)
        rights.require(rights.may_publish(caller, info, role), caller, info, role, "publish to")
        return info

    def _creation(self, call: Call) -> CreateTopic:
        """Reads the body of a creation. Raises Refusal."""
        body = call.json_object()
        topic_id = body.get("topic_id")
        if topic_id is None:
            topic_id = self._ids.make(call.caller, call.idempotency_key)
        elif not isinstance(topic_id, str):
            raise Refusal("bad_request", "topic_id must be a string")
        topic_id = check_topic_id(topic_id, create=True)
        if not rights.may_create(call.caller, topic_id):
            raise Refusal("forbidden", f"{call.caller.user_id} may not create topic {topic_id}")
        name = body.get("name")
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
            raise Refusal("bad_request", f"name must be a string of 1 to {MAX_NAME} characters")
        permissions = body.get("permissions")
        if permissions is None:
            permissions = "PUBLIC"
        if permissions not in rights.PERMISSIONS:
            raise Refusal("bad_request", f"permissions must be one of {', '.join(rights.PERMISSIONS)}")
        settings = topic_settings.create(body.get("settings"))
        topic_settings.require_built(settings)
        _check_key(call)
        return CreateTopic(topic_id, name, permissions, call.caller.user_id, settings)

    async def _create(self, caller: Caller, creation: CreateTopic, idempotency_key: str | None) -> TopicInfo:
        topic_id = creation.topic_id
        record_id = self._controls.id_of("create", topic_id, caller, idempotency_key)
        outcome = await self._controls.change(topic_id, creation, 0, record_id)
        self._catalog.drop(topic_id)
        code, epoch = outcome.verdict.code, outcome.verdict.epoch
        if code == Code.CREATED:
            return await self._as_created(creation, outcome)
        if code != Code.EXISTS:
            raise Refusal("outcome_unknown", "the topic's owner no longer knows the record", topic_id=topic_id)
        raise await self._exists(caller, topic_id, epoch)

    async def _as_created(self, creation: CreateTopic, outcome: ControlOutcome) -> TopicInfo:
        """Returns the topic as its first creation made it: this one may be a repeat with another time and body."""
        epoch = outcome.verdict.epoch
        try:
            info = await self._catalog.fetch(creation.topic_id)
        except Refusal:
            info = None
        if info is not None and info.epoch == epoch:
            return info
        settings = topic_settings.effective(creation.settings)
        about = (creation.name, creation.permissions, creation.owner_id, outcome.ts)
        return TopicInfo(creation.topic_id, epoch, 0, *about, 0, 0, "direct", settings)

    async def _exists(self, caller: Caller, topic_id: str, epoch: int) -> Refusal:
        """Returns the 409. It names `owner_id` and `epoch` to callers who may see the topic."""
        detail = f"topic {topic_id} exists"
        try:
            info = await self._catalog.fetch(topic_id)
        except Refusal:
            return Refusal("topic_exists", detail)
        if not rights.may_see(caller, info, role_in(info, caller)):
            return Refusal("topic_exists", detail)
        return Refusal("topic_exists", detail, owner_id=info.owner_id, epoch=epoch)


def _check_key(call: Call) -> None:
    if call.idempotency_key is not None:
        check_client_msg_id(call.idempotency_key, "the header Idempotency-Key")


def shown(info: TopicInfo) -> dict[str, Any]:
    """Returns a topic as `GET` shows it."""
    return {
        "topic_id": info.topic_id,
        "name": info.name,
        "permissions": info.permissions,
        "owner_id": info.owner_id,
        "created_at": rfc3339(info.created_at),
        "subscriber_count": info.subscriber_count,
        "member_count": info.member_count,
        "seq": info.seq,
        "epoch": info.epoch,
        "mode": info.mode,
        "settings": topic_settings.shown(info.settings),
    }


def created(info: TopicInfo) -> dict[str, Any]:
    """Returns a topic as the answer to its creation shows it."""
    whole = shown(info)
    return {name: whole[name] for name in _OF_CREATION}


def rfc3339(unix_ms: int) -> str:
    """Returns Unix milliseconds as RFC 3339 UTC with three decimals."""
    seconds, ms = divmod(unix_ms, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def _write_page(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _read_page(page: str | None) -> str:
    if page is None:
        return ""
    try:
        last = base64.b64decode(page.encode() + b"=" * (-len(page) % 4), altchars=b"-_", validate=True).decode()
        return check_topic_id(last)
    except (binascii.Error, ValueError, Refusal):
        raise Refusal("bad_request", "page must be the next_page of an earlier answer") from None
