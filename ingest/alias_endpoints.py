"""The aliases of docs/protocol.md, section 8: the channel vocabulary, answered by the handlers of the API."""

import re
from typing import Final

from headgate.core.publish.change_request import check_reaction
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_bytes
from headgate.core.wire.link import HistoryPage
from headgate.core.wire.timestamps import rfc3339
from headgate.runtime.http.call import NO_CONTENT, Call, Handler, Reply, reply
from headgate.runtime.http.queries import DEFAULT_PAGE, MAX_PAGE, integer
from ingest import channel_vocabulary as vocabulary
from ingest.bounded_reads import BoundedReads
from ingest.history import NOT_GIVEN, HistoryEndpoint, Range, seq_of
from ingest.inbox_marks import InboxMarks, read_mark
from ingest.message_updates import MessageUpdates, Target
from ingest.pages import read_page, write_page
from ingest.publish import PublishEndpoint

_PLACE: Final = re.compile(r"[0-9]{1,16}:[0-9]{1,16}")  # the epoch and the seq of the last message of a page


class AliasEndpoints:
    """Translates requests and answers; what they do is done elsewhere. Bodies are charged before they come here."""

    def __init__(
        self,
        publish: PublishEndpoint,
        history: HistoryEndpoint,
        updates: MessageUpdates,
        marks: InboxMarks,
        reads: BoundedReads,
    ) -> None:
        self._publish = publish
        self._history = history
        self._updates = updates
        self._marks = marks
        self._reads = reads

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by name."""
        return {
            "alias_send": self.send,
            "alias_messages": self.messages,
            "alias_edit": self.edit,
            "alias_delete": self.delete,
            "alias_react": self.react,
            "alias_ack": self.ack,
        }

    async def send(self, call: Call) -> Reply:
        """POST /send_message: a publish to the topic `channel_id`. Raises Refusal."""
        members = vocabulary.read_body(call.body)
        channel_id = vocabulary.string(members, "channel_id")
        as_publish = call._replace(body=vocabulary.publish_body(members), query={})
        with vocabulary.named():
            published = await self._publish.publish(as_publish, channel_id, is_charged=True)
        answer = {"message_id": published.answer["message_id"], "timestamp": rfc3339(published.ts)}
        return reply(answer, headers=published.headers)

    async def messages(self, call: Call) -> Reply:
        """GET /messages: a channel's messages from `since_ts` on, or from the first one kept. Raises Refusal."""
        channel_id = check_topic_id(_channel_of(call))
        page = await self._history.read(call, channel_id, lambda: _wanted(call))
        if not page.complete:
            raise Refusal("not_ready", "the channel's history is being rebuilt; try again")
        epoch, _ = _read_place(call)
        if epoch not in (0, page.epoch):
            detail = "the channel was deleted and created again since that page"
            raise Refusal("gone", detail, first_seq=page.first_seq)
        listed = b",".join(map(vocabulary.channel_message, page.frames))
        call.share.grow(len(listed))
        return Reply(200, b'{"messages":[%b],"next_page":%b}' % (listed, _next_page(call, page)))

    async def edit(self, call: Call) -> Reply:
        """POST /edit_message: answers with the message as it is now. Raises Refusal."""
        members = vocabulary.read_body(call.body)
        with vocabulary.named():
            edited, headers = await self._updates.edit(
                call, _target(members), vocabulary.edit_body(members), is_charged=True
            )
        return Reply(200, vocabulary.channel_message(edited.frame), headers)

    async def delete(self, call: Call) -> Reply:
        """POST /delete_message: redacts it. Raises Refusal."""
        members = vocabulary.read_body(call.body)
        return NO_CONTENT._replace(headers=await self._updates.redact(call, _target(members)))

    async def react(self, call: Call) -> Reply:
        """POST /react: adds a reaction, or takes it back with `remove`. Raises Refusal."""
        members = vocabulary.read_body(call.body)
        name = check_reaction(vocabulary.string(members, "reaction"))
        removed = vocabulary.flag(members, "remove")
        return NO_CONTENT._replace(headers=await self._updates.react(call, _target(members), name, removed=removed))

    async def ack(self, call: Call) -> Reply:
        """POST /ack: a device got a message, or the user has read it, and those before it. Raises Refusal."""
        members = call.json_object()
        message_id = members.get("message_id")
        if not isinstance(message_id, str):
            raise Refusal("bad_request", "message_id must be a string")
        raw_id = id_bytes(message_id)
        with self._reads.one(call.caller):
            place = await self._marks.resolve_message(call.caller, raw_id)
            await self._marks.store(call.caller, read_mark(call, members), place)
        return NO_CONTENT


def _target(members: vocabulary.Members) -> Target:
    return Target("", id_bytes(vocabulary.string(members, "message_id")))


def _channel_of(call: Call) -> str:
    if "channel_id" not in call.query:
        raise Refusal("bad_request", "channel_id is missing")
    return call.query["channel_id"]


def _wanted(call: Call) -> Range:
    _, after_seq = _read_place(call)
    since_ts = integer(call.query, "since_ts", NOT_GIVEN)
    limit = _page_size(call)
    if after_seq != NOT_GIVEN:
        return Range(after_seq, NOT_GIVEN, NOT_GIVEN, limit, "message")
    return Range(0 if since_ts == NOT_GIVEN else NOT_GIVEN, NOT_GIVEN, since_ts, limit, "message")


def _page_size(call: Call) -> int:
    return integer(call.query, "page_size", DEFAULT_PAGE, 1, MAX_PAGE)


def _read_place(call: Call) -> tuple[int, int]:
    """Returns the epoch and the seq behind which the page begins; 0 and NOT_GIVEN for the first."""
    place = read_page(call.query.get("page"), _check_place)
    if not place:
        return 0, NOT_GIVEN
    epoch, _, seq = place.partition(":")
    return int(epoch), int(seq)


def _check_place(text: str) -> str:
    if _PLACE.fullmatch(text) is None:
        raise Refusal("bad_request", "page must be the next_page of an earlier answer")
    return text


def _next_page(call: Call, page: HistoryPage) -> bytes:
    """Returns the JSON of `next_page`. A page that events alone follow names one more, which is empty."""
    last = seq_of(page.frames[-1]) if page.frames else page.last_seq
    if len(page.frames) < _page_size(call) or last >= page.last_seq:
        return b"null"
    return b'"%b"' % write_page(f"{page.epoch}:{last}").encode()
