"""How many writes a replay is: small pieces go out with the frames around them, a large one goes alone."""

from headgate.core.client.limits import Limits
from headgate.core.fanout.catchup import HELD
from tests.core.scene import Pipe, Scene


def follows(size: int, *, stuck: bool = False) -> tuple[Scene, Pipe]:
    """A client that comes back for the one message of a topic, which has about `size` bytes."""
    scene = Scene(Limits())
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", "x" * size)
    scene.turn()
    pipe = scene.socket()
    pipe.stuck = stuck
    pipe.waiting = scene.hub.limits.high_water if stuck else 0
    pipe.writes = 0
    scene.follow(pipe, "a", "seq:0")
    return scene, pipe


def test_a_large_piece_is_written_alone_and_a_small_one_with_the_frames_around_it() -> None:
    for size, writes in ((100, 1), (HELD + 1, 3)):
        _, pipe = follows(size)
        assert pipe.writes == writes
        assert [frame["type"] for frame in pipe.frames()] == ["welcome", "subscribed", "message", "caught_up"]


def test_who_is_parked_by_the_last_large_piece_is_in_step_when_his_socket_has_taken_it() -> None:
    scene, pipe = follows(HELD + 1, stuck=True)
    assert pipe.session is not None and pipe.session.paused and scene.hub.feeds["a"].in_step == 1
    pipe.drain()
    assert scene.hub.feeds["a"].in_step == 2 and len(pipe.frames("message")) == 1
    assert [frame["type"] for frame in pipe.frames()][-1] == "caught_up" and len(pipe.frames("caught_up")) == 1
