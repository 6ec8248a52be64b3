"""POST /api/v1/topics/{topic_id}/publish: one message."""

from typing import NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import TopicInfo
from headgate.runtime.http.answers import Header
from headgate.runtime.http.call import Call, Reply, reply
from ingest.admission import Answer, Publish, Wait
from ingest.message_queries import unknown_message
from ingest.publish_reader import PublishReader, client_msg_id_of
from ingest.publish_topics import PublishTopics
from ingest.publishing import Publishing, outcome_of
from ingest.rates import Rates


class Published(NamedTuple):
    """A publish's answer, its time in Unix milliseconds (of its record, where it has one), and the rates' headers."""

    answer: Answer
    ts: int
    headers: tuple[Header, ...]


class PublishEndpoint:
    """Publishes the body of a request to the topic of its path."""

    def __init__(self, topics: PublishTopics, reader: PublishReader, publishing: Publishing, rates: Rates) -> None:
        self._topics = topics
        self._reader = reader
        self._publishing = publishing
        self._rates = rates

    async def one(self, call: Call) -> Reply:
        """POST: answers with the message's ids and, by `wait`, its `seq`. Raises Refusal."""
        published = await self.publish(call, call.path_parameters["topic_id"])
        return reply(published.answer, headers=published.headers)

    async def publish(self, call: Call, topic_id: str, *, is_charged: bool = False) -> Published:
        """Publishes the body of a request to a topic; `is_charged`: its bytes are taken already. Raises Refusal."""
        info: TopicInfo | None = None
        try:
            check_topic_id(topic_id)
            info = await self._topics.find(topic_id, call.caller)
            wait = self._reader.begin(call, is_charged=is_charged)
            self._reader.hold_copies(call, len(call.body))
            body = self._reader.body(call.body)
            client_msg_id = client_msg_id_of(body, call.idempotency_key)
            is_new = info is None
            if info is None:
                if body.parent:
                    raise unknown_message(body.parent)
                info = await self._topics.make(call, topic_id)
            publish = self._reader.publish(info, call.caller, body, client_msg_id, is_paid=is_new)
            if publish.parent:
                await self._publishing.parents.require(publish)
            answer = await self._publish(publish, wait)
        except Refusal as refusal:
            self._publishing.count(refusal.code, info)
            if refusal.code == "rate_limited":
                raise self._rates.with_headers(refusal, call.caller, info) from None
            raise
        self._publishing.count(outcome_of(answer), info)
        return Published(answer, publish.ts, self._rates.headers(call.caller, info))

    async def _publish(self, publish: Publish, wait: Wait) -> Answer:
        if wait.delivered_s is None:
            return await self._answer(publish, wait)
        async with self._publishing.counting((publish,), wait):
            return await self._answer(publish, wait)

    async def _answer(self, publish: Publish, wait: Wait) -> Answer:
        pending = self._publishing.admit(publish) or self._publishing.hand_over((publish,))[0]
        return await self._publishing.answer(pending, wait)
