"""The members of a topic over HTTP: let in, give another role, put out, list."""

from typing import Final

from headgate.core.wire import rights
from headgate.core.wire.control import RemoveMember, SetMember
from headgate.core.wire.direct_topics import is_direct
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_text
from headgate.core.wire.link_members import AskMember, AskMembers, Member, MemberAnswer, MembersAnswer
from headgate.core.wire.member_roles import Grant, Role, may_change
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code
from headgate.runtime.http.call import NO_CONTENT, Call, Reply, reply
from headgate.runtime.http.queries import MAX_PAGE, page_limit
from headgate.runtime.token_claims import is_user_id
from ingest.access import Access
from ingest.audit import AuditEntry, AuditLog
from ingest.catalog import INGEST, Catalog, Known
from ingest.control_fields import check_role, check_user_id
from ingest.controls import ControlOutcome, Controls
from ingest.keyed_operations import KeyedOperation
from ingest.member_records import refusal_of, require_logic
from ingest.owners import OwnerQueries
from ingest.pages import read_page, write_page
from ingest.rates import Rates
from ingest.shapes import member_shown

_CHANGE: Final = "change the members of"


class MemberHandlers:
    """The handlers of `/api/v1/topics/{topic_id}/members` and of one member below it."""

    def __init__(
        self,
        *,
        access: Access,
        catalog: Catalog,
        controls: Controls,
        owners: OwnerQueries,
        rates: Rates,
        audit: AuditLog,
    ) -> None:
        self._access = access
        self._catalog = catalog
        self._controls = controls
        self._owners = owners
        self._rates = rates
        self._audit = audit

    async def put(self, call: Call) -> Reply:
        """PUT .../members/{user_id}: makes a user a member, or gives a member another role."""
        topic_id, user_id = check_topic_id(call.path_parameters["topic_id"]), call.path_parameters["user_id"]
        with self._audit.operation(call, "member.set", topic_id, user_id if is_user_id(user_id) else "") as entry:
            known = await self._require(call, topic_id, user_id)
            check_user_id(user_id)
            body = call.json_object() if call.body else {}
            role = check_role(body.get("role", Role.MEMBER))
            entry.change = f"role={role}"
            require_grant(call.caller, known, user_id, role)
            record = SetMember(topic_id, user_id, role, rights.actor_of(call.caller, topic_id))
            keyed = self._controls.keyed.read(call, f"member {topic_id} {user_id}", role)
            record_id = self._record_id("member", call, topic_id, user_id)
            outcome = await self._change(call, entry, known, record, record_id, keyed)
            if outcome.verdict.code != Code.MEMBER:
                raise await refusal_of(outcome.verdict, self._access, call.caller, topic_id, _CHANGE)
            member = await self._member(topic_id, record, outcome)
            return reply({"topic_id": topic_id, **member_shown(member)})

    async def remove(self, call: Call) -> Reply:
        """DELETE .../members/{user_id}: ends a membership; it is no fault if there is none.

        Who has left a private topic does not find it any longer: the repeat of a request that was handed over is 204.
        """
        topic_id, user_id = check_topic_id(call.path_parameters["topic_id"]), call.path_parameters["user_id"]
        operation, keys = f"unmember {topic_id} {user_id}", self._controls.keyed
        is_done = keys.answer(call, operation) is not None
        is_repeat = is_done or (user_id == call.caller.user_id and keys.is_known(call, operation))
        with self._audit.operation(call, "member.remove", topic_id, user_id if is_user_id(user_id) else "") as entry:
            try:
                known = await self._require(call, topic_id, user_id)
            except Refusal as refusal:
                if refusal.code != "topic_not_found" or not is_repeat:
                    raise
                return NO_CONTENT
            check_user_id(user_id)
            keyed = keys.read(call, operation)
            record = RemoveMember(topic_id, user_id, rights.actor_of(call.caller, topic_id))
            record_id = self._record_id("unmember", call, topic_id, user_id)
            outcome = await self._change(call, entry, known, record, record_id, keyed)
            if outcome.verdict.code != Code.REMOVED:
                keys.forget(call, operation)
                raise await refusal_of(outcome.verdict, self._access, call.caller, topic_id, _CHANGE)
            keys.add(keyed, "removed")
            return NO_CONTENT

    async def listed(self, call: Call) -> Reply:
        """GET .../members: a page of the members, ascending by user id."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        self._rates.read(call.caller)
        await self._access.require(topic_id, call.caller, rights.may_administer, "list the members of")
        limit = page_limit(call.query)
        after = read_page(call.query.get("page"), check_user_id)
        count, found = await self._above(topic_id, call.caller, after, limit)
        following = write_page(found[limit - 1].user_id) if len(found) > limit else None
        members = [member_shown(member) for member in found[:limit]]
        return reply({"members": members, "count": count, "next_page": following})

    async def _require(self, call: Call, topic_id: str, user_id: str) -> Known:
        """Returns the topic if the caller may change the membership at all. Raises Refusal."""
        allowed = rights.may_inspect if user_id == call.caller.user_id else rights.may_administer
        known = await self._access.ask(topic_id, call.caller, allowed, _CHANGE)
        if is_direct(topic_id):
            raise Refusal("forbidden", f"the members of {topic_id} are its two users; that never changes")
        return known

    def _record_id(self, what: str, call: Call, topic_id: str, user_id: str) -> bytes:
        return self._controls.id_of(f"{what}\0{user_id}", topic_id, call.caller, call.idempotency_key)

    async def _change(
        self,
        call: Call,
        entry: AuditEntry,
        known: Known,
        record: SetMember | RemoveMember,
        record_id: bytes,
        keyed: KeyedOperation | None,
    ) -> ControlOutcome:
        self._rates.change_member(call.caller)
        require_logic(known)
        entry.record_id = id_text(record_id)
        outcome = await self._controls.decide(record.topic_id, record, known.info.epoch, record_id, keyed)
        self._catalog.drop_role(record.topic_id, record.user_id)
        return outcome

    async def _member(self, topic_id: str, record: SetMember, outcome: ControlOutcome) -> Member:
        """Returns the membership as it is now; as the record made it where the owner is away or it ended meanwhile."""
        try:
            answer = await self._owners.ask(
                self._owners.shard_of(topic_id), lambda req: AskMember(req, topic_id, INGEST, record.user_id)
            )
        except Refusal:
            answer = None
        if isinstance(answer, MemberAnswer) and answer.epoch == outcome.verdict.epoch and answer.member is not None:
            return answer.member
        return Member(record.user_id, record.role, outcome.verdict.seq, outcome.ts)

    async def _above(self, topic_id: str, caller: Caller, after: str, limit: int) -> tuple[int, list[Member]]:
        """Returns the number of all members, and those above `after`: one more than `limit` where there are more."""
        found: list[Member] = []
        while True:
            size = min(limit + 1 - len(found), MAX_PAGE)
            last = found[-1].user_id if found else after
            answer = await self._page(topic_id, caller, last, size)
            found += answer.members
            if len(answer.members) < size or len(found) > limit:
                return answer.count, found

    async def _page(self, topic_id: str, caller: Caller, after: str, size: int) -> MembersAnswer:
        shard = self._owners.shard_of(topic_id)
        answer = await self._owners.ask(shard, lambda req: AskMembers(req, topic_id, caller, after, size))
        assert isinstance(answer, MembersAnswer)
        return answer


def require_grant(caller: Caller, known: Known, user_id: str, role: Role) -> None:
    """Raises Refusal `forbidden` for a role that the caller can give to nobody like this user.

    The topic's owner decides the rest when it applies the record: it depends on the role that the user has then.
    """
    own = caller.user_id == user_id
    actor_rights = rights.rights_of(caller, known.info, known.role)
    if may_change(actor_rights, own=own, old=known.role if own else None, new=role, owners=2) is Grant.FORBIDDEN:
        whom = "himself" if own else user_id
        raise Refusal("forbidden", f"{caller.user_id} may not make {whom} {role} of topic {known.info.topic_id}")
