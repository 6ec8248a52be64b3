"""The bounds that follow from other bounds, and the ones a client is told."""

from headgate.core.client.limits import MAX_HIGH_WATER, MAX_TOPICS, Limits


def test_the_setting_for_topics_has_a_hard_bound() -> None:
    assert Limits(topics=5).topics_allowed == 5
    assert Limits(topics=MAX_TOPICS + 1).topics_allowed == MAX_TOPICS


def test_a_parked_session_stays_below_its_queue_with_a_piece_and_a_page_on_top() -> None:
    for limits in (Limits(), Limits(queue_bytes=100_000), Limits(queue_bytes=64 * 1024 * 1024)):
        assert limits.high_water + 2 * limits.piece_bytes <= limits.queue_bytes
        assert limits.low_water < limits.high_water <= MAX_HIGH_WATER
        assert 2 * limits.piece_frames <= limits.queue_frames


def test_a_piece_has_at_least_one_frame() -> None:
    assert Limits(queue_frames=1).piece_frames == 1 and Limits(queue_frames=10).piece_frames == 5


def test_a_connection_is_dead_after_so_many_missed_heartbeats() -> None:
    assert Limits(heartbeat_s=20, heartbeat_missed=3).dead_s == 60


def test_welcome_names_the_bounds_that_hold_and_not_the_settings() -> None:
    told = Limits(topics=MAX_TOPICS + 1, control_burst=7).told()
    assert told["topics"] == MAX_TOPICS and told["control_frames_burst"] == 7
    assert set(told) == {
        *("topics", "frame_bytes", "control_frames_per_s", "control_frames_burst"),
        *("queue_bytes", "queue_frames", "slow_messages", "slow_bytes", "ack_window"),
    }
