"""`headgate doctor` as a person and as a script run it."""

from tests.cli.conftest import Command, Headgate

SECRET = "cV9yT2x1S3ZXb0pQbUZhR2hIa0xpTnhaUXdFclR5"
AWAY = ("--log.url", "kafka://127.0.0.1:9", "--cluster.dispatchers", "127.0.0.1:9")


def test_each_finding_is_a_line_and_a_failure_is_status_1(headgate: Headgate) -> None:
    done = headgate("doctor", *AWAY, "--auth.secret", SECRET)
    found = {line["check"]: line for line in done.lines}
    assert done.status == 1
    assert set(done.lines[0]) == {"check", "status", "detail", "mend"}
    assert found["auth.secret"]["status"] == "ok"
    for check in ("kafka.reachable", "links.127.0.0.1:9"):
        assert found[check]["status"] == "fail"
        assert "127.0.0.1:9" in found[check]["detail"]
        assert found[check]["mend"]
    assert done.err.splitlines()[-1].endswith(" 2 to mend")
    assert SECRET not in done.out + done.err


def test_a_gateway_is_not_asked_for_kafka_and_a_dispatcher_not_for_links(headgate: Headgate) -> None:
    gateway = headgate("doctor", *AWAY, "--auth.secret", SECRET, "--role", "gateway")
    assert not [line for line in gateway.lines if line["check"].startswith("kafka")]
    dispatcher = headgate("doctor", "--auth.secret", SECRET, "--role", "dispatcher")
    assert not [line for line in dispatcher.lines if line["check"].startswith("links")]
    assert dispatcher.lines[0]["check"] == "settings.dispatcher"
    assert dispatcher.lines[0]["status"] == "fail"  # no log.url


def test_a_person_reads_what_to_do(headgate: Headgate) -> None:
    done = headgate.on_terminal(
        "doctor", "--auth.secret", "short", "--role", "gateway", "--cluster.dispatchers", "127.0.0.1:9"
    )
    assert "fail  auth.secret" in done.out
    assert "mend: make one with" in done.out


def test_an_unknown_setting_is_the_wrong_command(at_once: Command) -> None:
    done = at_once("doctor", "--auth.secrte", "x")
    assert done.status == 2
    assert "auth.secret" in done.err
