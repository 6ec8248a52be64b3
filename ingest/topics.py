"""Topics over HTTP: create, show, list, delete. A change is a control record; its owner's verdict is the answer."""

from heapq import merge
from typing import Final

from headgate.core.wire import rights, topic_settings
from headgate.core.wire.control import CreateTopic, DeleteTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_text
from headgate.core.wire.link import AskTopics, TopicInfo, TopicsAnswer
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code
from headgate.runtime.http.call import NO_CONTENT, Call, Reply, reply
from headgate.runtime.http.queries import MAX_PAGE, page_limit
from ingest.access import Access
from ingest.audit import AuditEntry, AuditLog
from ingest.catalog import Catalog
from ingest.control_fields import check_name, check_permissions, check_retention
from ingest.controls import Controls
from ingest.creations import as_created
from ingest.keyed_operations import KeyedOperation
from ingest.member_records import refusal_of
from ingest.owners import OwnerQueries
from ingest.pages import read_page, write_page
from ingest.rates import Rates
from ingest.shapes import topic_created, topic_shown
from ingest.topic_ids import TopicIds
from ingest.user_turns import UserTurns

LISTED: Final = 2_000  # topics that one page asks of all shards together, at least one of each


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
        turns: UserTurns,
        ids: TopicIds,
        audit: AuditLog,
        profile: str,
        usual: topic_settings.Settings,
        kept_ms: int,
    ) -> None:
        """`profile` is the setting `topics.profile`, `usual` are the defaults of the installation.

        `kept_ms` is how long the log keeps messages.
        """
        self._access = access
        self._catalog = catalog
        self._controls = controls
        self._owners = owners
        self._rates = rates
        self._turns = turns
        self._ids = ids
        self._audit = audit
        self._profile = profile
        self._usual = usual
        self._kept_ms = kept_ms

    async def create(self, call: Call) -> Reply:
        """POST /api/v1/topics."""
        with self._audit.operation(call, "topic.create") as entry:
            creation = self._creation(call)
            entry.topic_id, entry.change = creation.topic_id, creation.permissions
            keyed = self._controls.keyed.read(call, f"create {creation.topic_id}", creation)
            record_id = self._controls.id_of("create", creation.topic_id, call.caller, call.idempotency_key)
            self._rates.create(call.caller)
            entry.record_id = id_text(record_id)
            return reply(topic_created(await self._create(call, creation, record_id, keyed)), 201)

    async def show(self, call: Call) -> Reply:
        """GET /api/v1/topics/{topic_id}."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        self._rates.read(call.caller)
        known = await self._access.ask(topic_id, call.caller, rights.may_inspect, "see")
        return reply(topic_shown(known.info))

    async def remove(self, call: Call) -> Reply:
        """DELETE /api/v1/topics/{topic_id}; 204 too for the repeat of one that was handed over, once it is gone."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        operation, keys = f"delete {topic_id}", self._controls.keyed
        is_repeat = keys.is_known(call, operation)
        with self._audit.operation(call, "topic.delete", topic_id) as entry:
            try:
                await self._delete(call, entry, topic_id, operation)
            except Refusal as refusal:
                if refusal.code != "topic_not_found":
                    raise
                is_done = keys.answer(call, operation) is not None
                if not is_done and not (is_repeat and await self._is_gone(topic_id)):  # else it is hidden from him now
                    keys.forget(call, operation)
                    raise
            return NO_CONTENT

    async def _delete(self, call: Call, entry: AuditEntry, topic_id: str, operation: str) -> None:
        known = await self._access.ask(topic_id, call.caller, rights.may_administer, "delete")
        keyed = self._controls.keyed.read(call, operation)
        self._rates.read(call.caller)
        record_id = self._controls.id_of("delete", topic_id, call.caller, call.idempotency_key)
        entry.record_id = id_text(record_id)
        record = DeleteTopic(topic_id, rights.actor_of(call.caller, topic_id))
        outcome = await self._controls.decide(topic_id, record, known.info.epoch, record_id, keyed)
        self._catalog.drop(topic_id)
        if outcome.verdict.code == Code.FORBIDDEN:
            self._controls.keyed.forget(call, operation)
        if outcome.verdict.code != Code.DELETED:
            raise await refusal_of(outcome.verdict, self._access, call.caller, topic_id, "delete")
        self._controls.keyed.add(keyed, "deleted")

    async def _is_gone(self, topic_id: str) -> bool:
        """Returns whether there is no such topic, for nobody. Raises Refusal `not_ready`."""
        try:
            await self._catalog.fetch(topic_id)
        except Refusal as refusal:
            if refusal.code != "topic_not_found":
                raise
            return True
        return False

    async def listed(self, call: Call) -> Reply:
        """GET /api/v1/topics: a page of the topics that the caller may see, ascending by id over all shards."""
        limit = page_limit(call.query)
        prefix = call.query.get("prefix", "")
        after = read_page(call.query.get("page"), check_topic_id)
        self._rates.read(call.caller)
        # One more than are shown: its presence tells that the page is not the last.
        per_shard = min(limit, MAX_PAGE - 1, -(-LISTED // max(1, self._owners.shards))) + 1
        async with self._turns.of(call.caller.user_id):  # owners look at all topics, also at those that he may not see
            answers = await self._owners.ask_all(
                lambda req, shard: AskTopics(req, shard, call.caller, prefix, after, per_shard)
            )
        chunks = [answer.topics for answer in answers if isinstance(answer, TopicsAnswer)]
        # The shard of a full chunk may have more topics above its last: the page ends at the lowest such id.
        ends = [chunk[-1].topic_id for chunk in chunks if len(chunk) >= per_shard]
        known = list(merge(*chunks, key=lambda info: info.topic_id))
        page = [info for info in known if not ends or info.topic_id <= min(ends)][:limit]
        more = bool(ends) or len(known) > len(page)
        following = write_page(page[-1].topic_id) if page and more else None
        return reply({"topics": [topic_shown(info) for info in page], "next_page": following})

    async def make(self, call: Call, topic_id: str) -> TopicInfo:
        """Creates a public topic for its first publish, or finds that another caller just did.

        The user's rates, of publishes too, are taken first. Raises Refusal: `not_ready` where it is not known in time
        whether the topic is made, for the message itself was not handed over.
        """
        caller = call.caller
        try:
            with self._audit.operation(call, "topic.create", topic_id) as entry:
                self._rates.publish_and_create(caller)
                settings = topic_settings.create(None, self._profile)
                creation = CreateTopic(topic_id, topic_id, "PUBLIC", caller.user_id, settings)
                record_id = self._controls.id_of("create", topic_id, caller, None)
                entry.change, entry.record_id = creation.permissions, id_text(record_id)
                await self._controls.change(topic_id, creation, 0, record_id)
        except Refusal as refusal:
            if refusal.code != "outcome_unknown":
                raise
            detail = f"topic {topic_id} is not made yet; nothing was published to it"
            raise Refusal("not_ready", detail) from None
        info, role, _ = await self._catalog.fetch(topic_id, caller)
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
        name = check_name(body.get("name"))
        permissions = body.get("permissions")
        permissions = "PUBLIC" if permissions is None else check_permissions(permissions)
        settings = topic_settings.create(body.get("settings"), self._profile, self._usual)
        check_retention(settings, self._kept_ms)
        return CreateTopic(topic_id, name, permissions, call.caller.user_id, settings)

    async def _create(
        self, call: Call, creation: CreateTopic, record_id: bytes, keyed: KeyedOperation | None
    ) -> TopicInfo:
        topic_id = creation.topic_id
        outcome = await self._controls.decide(topic_id, creation, 0, record_id, keyed)
        self._catalog.drop(topic_id)
        if outcome.verdict.code == Code.CREATED:
            return await as_created(self._catalog, call.caller, creation, outcome, self._usual)
        raise await self._exists(call.caller, topic_id, outcome.verdict.epoch)

    async def _exists(self, caller: Caller, topic_id: str, epoch: int) -> Refusal:
        """Returns the 409. It names `owner_id` and `epoch` to callers who may see the topic."""
        detail = f"topic {topic_id} exists"
        try:
            info, role, _ = await self._catalog.fetch(topic_id, caller)
        except Refusal:
            return Refusal("topic_exists", detail)
        if not rights.may_see(caller, info, role):
            return Refusal("topic_exists", detail)
        return Refusal("topic_exists", detail, owner_id=info.owner_id, epoch=epoch)
