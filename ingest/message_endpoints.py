"""The endpoints of one message: show it, edit it, redact it, react to it."""

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_bytes
from headgate.core.wire.link_messages import MessageVersion
from headgate.core.wire.timestamps import rfc3339
from headgate.runtime.http.call import NO_CONTENT, Call, Reply
from ingest.message_queries import MessageQueries
from ingest.message_updates import MessageUpdates, Target
from ingest.rates import Rates


class MessageEndpoints:
    """The handlers of `/api/v1/topics/{topic_id}/messages/{message_id}` and of the reactions below it."""

    def __init__(self, messages: MessageQueries, updates: MessageUpdates, rates: Rates) -> None:
        self._messages = messages
        self._updates = updates
        self._rates = rates

    async def show(self, call: Call) -> Reply:
        """GET: the message as it is now; with `versions=true` all its versions too. Raises Refusal."""
        target = target_of(call)
        self._rates.read(call.caller)
        wanted = call.query.get("versions", "false")
        if wanted != "true":
            message = await self._messages.ask(call.caller, *target, "read")
            _require_no_versions(wanted)
            return Reply(200, message.frame)
        message = await self._messages.ask_versions(call.caller, *target, call.share)
        listed = b",".join(map(version_shown, message.versions))
        call.share.grow(2 * len(listed))
        return Reply(200, _with_member(message.frame, b'"versions":[%b]' % listed))

    async def edit(self, call: Call) -> Reply:
        """PATCH: answers with the message as it is now, and the `seq` of the edit. Raises Refusal."""
        edited, headers = await self._updates.edit(call, target_of(call), call.body)
        return Reply(200, _with_member(edited.frame, b'"event_seq":%d' % edited.event_seq), headers)

    async def redact(self, call: Call) -> Reply:
        """DELETE: 204, also for a message that is redacted already. Raises Refusal."""
        return NO_CONTENT._replace(headers=await self._updates.redact(call, target_of(call)))

    async def react(self, call: Call) -> Reply:
        """PUT of a reaction: 204, also for one that is there already. Raises Refusal."""
        return await self._react(call, removed=False)

    async def unreact(self, call: Call) -> Reply:
        """DELETE of a reaction: 204, also for one that is not there. Raises Refusal."""
        return await self._react(call, removed=True)

    async def _react(self, call: Call, *, removed: bool) -> Reply:
        name = call.path_parameters["name"]
        return NO_CONTENT._replace(headers=await self._updates.react(call, target_of(call), name, removed=removed))


def target_of(call: Call) -> Target:
    """Returns the message that the path names. Raises Refusal."""
    return Target(check_topic_id(call.path_parameters["topic_id"]), id_bytes(call.path_parameters["message_id"]))


def version_shown(version: MessageVersion) -> bytes:
    """Returns the JSON of a version; the first has no `edited_at`."""
    edited_at = b'"%b"' % rfc3339(version.edited_at).encode() if version.edited_at else b"null"
    return b'{"version":%d,"payload":%b,"edited_at":%b}' % (version.version, version.payload, edited_at)


def _require_no_versions(wanted: str) -> None:
    if wanted != "false":
        raise Refusal("bad_request", "versions must be true or false")


def _with_member(frame: bytes, member: bytes) -> bytes:
    return b"%b,%b}" % (frame[:-1], member)
