"""What the Python client acknowledges and when, on values: of a device, and of a member of a group."""

from headgate_client.acks import RECENT, Acks, Due, GroupAcks


def named(due: list[Due]) -> int | None:
    """The one `ack` that is due, None where there is none."""
    assert len(due) <= 1
    return due[0].seq if due else None


class TestAcks:
    def test_a_redelivery_of_what_is_in_hand_is_dropped(self) -> None:
        acks = Acks()
        assert acks.arrived(1, None, new=True) == "deliver"
        assert acks.arrived(1, 2, new=False) == "drop"

    def test_a_redelivery_of_what_the_application_took_and_forgot_is_passed_on(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        acks.handed_out(1)
        assert acks.arrived(1, None, new=False) == "drop", "after a reconnect: the application still has it"
        assert acks.arrived(1, 2, new=False) == "deliver"

    def test_what_is_settled_is_acknowledged_again(self) -> None:
        acks = Acks()
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        assert (named(acks.acknowledge(2)), named(acks.acknowledge(1))) == (2, None)
        assert acks.arrived(2, 2, new=False) == "settled"
        assert acks.arrived(3, 2, new=False) == "drop"
        assert named(acks.reconnected()) == 2

    def test_no_ack_goes_above_a_refused_message_before_that_is_settled(self) -> None:
        """The server may have sent it again already: then the ack would count for it too."""
        acks = Acks()
        for seq in (1, 2, 3, 4):
            acks.arrived(seq, None, new=True)
        assert named(acks.acknowledge(1)) == 1
        acks.refuse(2)
        assert (named(acks.acknowledge(3)), acks.repeated()) == (None, 1)
        assert acks.arrived(2, 2, new=False) == "deliver"
        assert acks.arrived(2, 3, new=False) == "drop"
        assert acks.arrived(3, 2, new=False) == "settled", "sent again behind it"
        assert acks.acknowledge(2) == [Due(2, None), Due(3, 3)], "an ack of 3 does not count for it"
        assert named(acks.acknowledge(4)) == 4

    def test_a_refused_message_that_fails_again_is_refused_again(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        for attempt in (2, 3):
            acks.refuse(1)
            acks.heard(1)
            assert acks.arrived(1, attempt, new=False) == "deliver"
        assert named(acks.acknowledge(1)) == 1

    def test_a_message_that_was_given_up_holds_nothing_back(self) -> None:
        acks = Acks()
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        acks.refuse(1)
        assert acks.acknowledge(3) == []
        assert acks.arrived(2, 2, new=False) == "settled"
        assert acks.repeated() is None, "that was sent before the server had the nack"
        acks.heard(1)
        assert acks.arrived(2, 3, new=False) == "settled"
        assert acks.repeated() == 3

    def test_a_refused_message_comes_again_after_a_reconnect_without_an_attempt(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        acks.refuse(1)
        assert acks.reconnected() == []
        assert acks.arrived(1, None, new=False) == "deliver"

    def test_a_replayed_dead_letter_is_settled_by_its_own_seq(self) -> None:
        acks = Acks()
        for seq in (1, 2):
            acks.arrived(seq, None, new=True)
        acks.acknowledge(2)
        assert acks.arrived(1, 1, new=False) == "deliver"
        assert acks.acknowledge(1) == [Due(1, None)], "it stands for no other"
        assert acks.arrived(1, 2, new=False) == "settled"

    def test_a_topic_that_was_created_again_begins_anew(self) -> None:
        acks = Acks()
        acks.arrived(5, None, new=True)
        acks.acknowledge(5)
        acks.forget()
        assert acks.arrived(1, None, new=True) == "deliver"
        assert named(acks.acknowledge(1)) == 1

    def test_where_each_is_settled_by_itself_no_ack_goes_above_one_that_is_open(self) -> None:
        acks = Acks(each=True)
        for seq in (1, 2, 3, 4):
            acks.arrived(seq, None, new=True)
        assert (acks.acknowledge(2), acks.acknowledge(4)) == ([], [])
        assert named(acks.acknowledge(1)) == 2
        assert named(acks.refuse(3)) is None, "3 comes again, and an ack of 4 would count for it"
        assert acks.arrived(3, 2, new=False) == "deliver"
        assert acks.acknowledge(3) == [Due(3, None), Due(4, 4)]

    def test_a_refused_message_that_is_done_settles_none_that_is_open_below_it(self) -> None:
        acks = Acks(each=True)
        for seq in (1, 2):
            acks.arrived(seq, None, new=True)
        acks.refuse(2)
        acks.heard(2)
        assert acks.arrived(2, 2, new=False) == "deliver"
        assert acks.acknowledge(2) == []
        assert acks.refuse(1) == []
        assert acks.arrived(1, 2, new=False) == "deliver"
        assert acks.acknowledge(1) == [Due(1, None), Due(2, None)]

    def test_a_refused_message_that_is_done_above_what_is_settled_blocks_nothing(self) -> None:
        acks = Acks(each=True)
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        acks.refuse(1)
        acks.acknowledge(2)
        assert acks.arrived(1, 2, new=False) == "deliver"
        assert acks.acknowledge(1) == [Due(1, None), Due(2, 2)]
        assert named(acks.acknowledge(3)) == 3


class TestGroupAcks:
    def test_a_member_gets_messages_in_any_order(self) -> None:
        acks = GroupAcks()
        assert acks.arrived(9, None, new=True) == "deliver"
        assert acks.arrived(4, 2, new=False) == "deliver", "another member had it"
        assert acks.acknowledge(9) == [Due(9, 1)]
        assert acks.acknowledge(4) == [Due(4, 2)], "an ack of 9 does not stand for it: it came later"
        assert acks.arrived(4, 3, new=False) == "settled"
        assert acks.again(4) == [Due(4, 3)]

    def test_what_is_remembered_is_bounded(self) -> None:
        acks = GroupAcks()
        for seq in range(1, RECENT + 2):
            acks.arrived(seq, None, new=True)
            acks.acknowledge(seq)
        assert acks.arrived(2, 2, new=False) == "settled"
        assert acks.arrived(1, 2, new=False) == "deliver"

    def test_an_ack_stands_for_lower_ones_that_were_sent_before(self) -> None:
        acks = GroupAcks(each=True)
        for seq in (9, 4, 10, 5):
            acks.arrived(seq, None, new=True)
        assert acks.acknowledge(10) == [], "9 and 4 are open"
        assert acks.acknowledge(9) == [Due(9, 1)]
        assert acks.acknowledge(5) == [], "4 is open"
        assert acks.acknowledge(4) == [Due(10, 3), Due(5, 4)], "10 stands for 4"

    def test_what_comes_again_was_sent_before_what_comes_again_behind_it(self) -> None:
        acks = GroupAcks(each=True)
        for seq in (9, 4):
            acks.arrived(seq, None, new=True)
        assert acks.arrived(9, 2, new=False) == "drop"
        assert acks.acknowledge(9) == [], "the server sent 4 before it"
        assert acks.arrived(4, 2, new=False) == "drop"
        assert acks.again(4) == [], "9 may be on its way once more, behind 4"
        assert acks.acknowledge(4) == [Due(9, 3), Due(4, 4)]

    def test_a_redelivery_of_all_that_is_open_frees_nothing_in_its_middle(self) -> None:
        acks = GroupAcks(each=True)
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        assert acks.acknowledge(3) == []
        for seq in (1, 2):
            assert acks.arrived(seq, 2, new=False) == "drop"
            assert acks.again(seq) == [], "the server has 3 behind it"

    def test_an_ack_of_a_loop_counts_for_none_that_it_was_not_given(self) -> None:
        acks = GroupAcks()
        acks.arrived(4, None, new=True)
        acks.handed_out(4)
        for seq, attempt in ((1, 2), (4, 2)):
            acks.arrived(seq, attempt, new=False)
        assert acks.acknowledge(4) == [], "1 waits in the queue"
        assert acks.acknowledge(1) == [Due(4, 3)]

    def test_a_message_that_comes_again_after_its_ack_was_lost_waits_for_lower_ones_too(self) -> None:
        acks = GroupAcks()
        for seq in (4, 9):
            acks.arrived(seq, None, new=True)
            acks.handed_out(seq)
        assert acks.acknowledge(9) == [Due(9, 2)], "it counts for 4 too, which the application was given before"
        acks.arrived(3, None, new=True)
        assert acks.arrived(9, 2, new=False) == "settled"
        assert acks.again(9) == [], "3 is with the application, and an ack of 9 would count for it"
        assert acks.acknowledge(3) == [Due(9, 4)]

    def test_a_refused_one_holds_nothing_back_and_a_new_connection_was_sent_nothing(self) -> None:
        acks = GroupAcks(each=True)
        for seq in (4, 9):
            acks.arrived(seq, None, new=True)
        assert acks.acknowledge(9) == []
        assert acks.refuse(4) == [Due(9, 2)]
        acks.arrived(10, None, new=True)
        assert acks.reconnected() == []
        assert acks.acknowledge(10) == [], "the server has it in nobody's hand"
        assert acks.arrived(10, 2, new=False) == "settled"
        assert acks.again(10) == [Due(10, 4)]
