"""POST /api/v1/direct: the topic of the caller and another user, made where they have none yet."""

from headgate.core.wire import rights, topic_settings
from headgate.core.wire.control import MESSAGES_LOGIC, CreateTopic
from headgate.core.wire.direct_topics import PERMISSIONS, direct_topic_id
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_direct import AskLogic, ShardLogic
from headgate.core.wire.verdict import Code
from headgate.runtime.http.call import Call, Reply, reply
from ingest.audit import AuditEntry, AuditLog
from ingest.catalog import Catalog
from ingest.control_fields import check_user_id
from ingest.controls import Controls
from ingest.creations import as_created
from ingest.keyed_operations import KeyedOperation
from ingest.owners import OwnerQueries
from ingest.rates import Rates
from ingest.shapes import topic_created


class DirectEndpoint:
    """The handler. `profile` is the setting `topics.profile`, `usual` are the defaults of the installation."""

    def __init__(
        self,
        catalog: Catalog,
        controls: Controls,
        owners: OwnerQueries,
        rates: Rates,
        audit: AuditLog,
        profile: str,
        usual: topic_settings.Settings,
    ) -> None:
        self._catalog = catalog
        self._controls = controls
        self._owners = owners
        self._rates = rates
        self._audit = audit
        self._profile = profile
        self._usual = usual

    async def create(self, call: Call) -> Reply:
        """Answers 201 with a topic that was made, 200 with one that is there. Raises Refusal.

        With an Idempotency-Key the log decides always: the repeat of a creation is answered like the first.
        """
        creation, user_id = self._creation(call)
        allowed = rights.may_talk(call.caller, creation.topic_id)
        if allowed and call.idempotency_key is None:
            self._rates.read(call.caller)
            found = await self._find(creation.topic_id)
            if found is not None:
                return reply(topic_created(found))
        with self._audit.operation(call, "topic.create", creation.topic_id, user_id) as entry:
            entry.change = creation.permissions
            if not allowed:
                raise Refusal("forbidden", f"{call.caller.user_id} may not create topic {creation.topic_id}")
            keyed = self._controls.keyed.read(call, f"direct {creation.topic_id}")
            self._rates.create(call.caller)
            return await self._make(call, creation, entry, keyed)

    def _creation(self, call: Call) -> tuple[CreateTopic, str]:
        """Reads the body. Raises Refusal `bad_request`."""
        user_id = call.json_object().get("user_id")
        if not isinstance(user_id, str):
            raise Refusal("bad_request", "user_id must be a string")
        check_user_id(user_id)
        topic_id = direct_topic_id(call.caller.user_id, user_id)
        settings = topic_settings.create(None, self._profile)
        return CreateTopic(topic_id, topic_id, PERMISSIONS, call.caller.user_id, settings, user_id), user_id

    async def _find(self, topic_id: str) -> TopicInfo | None:
        try:
            return (await self._catalog.fetch(topic_id)).info
        except Refusal as refusal:
            if refusal.code != "topic_not_found":
                raise
            return None

    async def _make(self, call: Call, creation: CreateTopic, entry: AuditEntry, keyed: KeyedOperation | None) -> Reply:
        topic_id = creation.topic_id
        await self._require_logic(self._owners.shard_of(topic_id))
        record_id = self._controls.id_of("create", topic_id, call.caller, call.idempotency_key)
        entry.record_id = id_text(record_id)
        outcome = await self._controls.decide(topic_id, creation, 0, record_id, keyed)
        self._catalog.drop(topic_id)
        if outcome.verdict.code == Code.CREATED:
            made = await as_created(self._catalog, call.caller, creation, outcome, self._usual)
            return reply(topic_created(made), 201)
        if outcome.verdict.code == Code.EXISTS:  # the other user made it in the same moment
            return reply(topic_created((await self._catalog.fetch(topic_id)).info))
        raise Refusal("internal", "the topic's owner could not read the record; it is among the dead letters")

    async def _require_logic(self, shard: int) -> None:
        """Raises Refusal `not_ready` while an older dispatcher may have to read the record."""
        answer = await self._owners.ask(shard, lambda req: AskLogic(req, shard))
        if not isinstance(answer, ShardLogic) or answer.logic < MESSAGES_LOGIC:
            detail = "direct topics cannot be created until every dispatcher of the cluster has been upgraded"
            raise Refusal("not_ready", detail)
