"""`GET /api/v1/top`: asked of the owners of all shards, merged, and not complete where one is away."""

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_stats import AskTop, TopAnswer, TopEntry, TopLists
from tests.integration.ingest_twin import World, play, problem

TOP = "/api/v1/top"


def answering(world: World, lists: dict[int, TopLists], away: int = -1) -> None:
    """Has the owner of each shard answer with its lists, two of each; that of the shard `away` is not there."""

    def answer(ask: AskTop) -> TopAnswer:
        if ask.shard == away:
            raise Refusal("not_ready", "the owner is away")
        return TopAnswer(ask.req, 2, lists.get(ask.shard, TopLists()))

    world.owner._AskTop = answer  # type: ignore[attr-defined]  # as the twin finds what answers


def test_an_admin_sees_the_first_of_all_shards() -> None:
    async def scene(world: World) -> None:
        one = TopLists([TopEntry("a", 5), TopEntry("b", 1)], [TopEntry("a", 8, 1)], [], [TopEntry("ann", 3)])
        two = TopLists([TopEntry("c", 4)], [TopEntry("c", 9)], [TopEntry("c", 2, 7)], [TopEntry("bob", 4)])
        answering(world, {0: one, 1: two})
        answer = (await world.call("GET", TOP, world.token("root", admin=True))).json()
        assert answer == {
            "topic_members": [{"topic_id": "a", "count": 5}, {"topic_id": "c", "count": 4}],
            "topic_messages_per_hour": [
                {"topic_id": "c", "count": 9, "error": 0},
                {"topic_id": "a", "count": 8, "error": 1},
            ],
            "topic_failures": [{"topic_id": "c", "count": 2, "error": 7}],
            "inbox_backlog": [{"user_id": "bob", "count": 4}, {"user_id": "ann", "count": 3}],
            "complete": True,
        }

    play(scene)


def test_nobody_else_sees_them() -> None:
    async def scene(world: World) -> None:
        answering(world, {})
        problem(await world.call("GET", TOP, world.token("bo")), 403, "forbidden")
        problem(await world.call("GET", TOP, world.token("root", admin=True, only=True)), 403, "forbidden")
        problem(await world.call("GET", TOP, None), 401, "unauthenticated")

    play(scene)


def test_a_shard_without_an_owner_makes_it_incomplete_and_the_others_are_shown() -> None:
    async def scene(world: World) -> None:
        answering(world, {0: TopLists([TopEntry("a", 5)]), 1: TopLists([TopEntry("c", 4)])}, away=1)
        answer = (await world.call("GET", TOP, world.token("root", admin=True))).json()
        assert answer["topic_members"] == [{"topic_id": "a", "count": 5}] and answer["complete"] is False

    play(scene)


def test_before_the_first_dispatcher_has_answered_it_is_not_ready() -> None:
    async def scene(world: World) -> None:
        world.directory.shards = 0
        problem(await world.call("GET", TOP, world.token("root", admin=True)), 503, "not_ready")

    play(scene)
