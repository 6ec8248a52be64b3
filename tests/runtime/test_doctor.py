"""What `headgate doctor` finds: each fault is planted, and found by its name; a good installation is quiet."""

import datetime
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.runtime.doctor import certificates, environment, machine, secrets
from headgate.runtime.findings import Finding, Grade
from headgate.runtime.links.tls import TlsFiles
from headgate.runtime.logs import kafka_checks
from headgate.runtime.settings import Settings, load
from headgate.runtime.sockets import SPARE_DESCRIPTORS
from tests.certificates import DAY, Authority

GOOD = "cV9yT2x1S3ZXb0pQbUZhR2hIa0xpTnhaUXdFclR5"
NOW = datetime.datetime.now(datetime.UTC).timestamp()


def settings(**flags: str) -> Settings:
    return load({name.replace("__", "."): value for name, value in flags.items()}, None, {})


def bad(findings: Iterator[Finding]) -> dict[str, Grade]:
    return {found.check: found.status for found in findings if found.status is not Grade.OK}


def test_a_role_that_would_not_start_says_so() -> None:
    found = secrets.check_settings(settings(auth__secret=GOOD), "ingest")
    assert (found.check, found.status) == ("settings.ingest", Grade.FAIL)
    assert "log.url" in found.detail
    assert secrets.check_settings(settings(auth__secret=GOOD, log__url="kafka://h:1"), "ingest").status is Grade.OK


def test_secrets_that_can_be_guessed_are_found_and_never_shown() -> None:
    assert bad(secrets.check_secrets(settings(auth__secret=GOOD))) == {}
    short = list(secrets.check_secrets(settings(auth__secret="short-secret", cluster__secret=GOOD)))
    assert bad(iter(short)) == {"auth.secret": Grade.FAIL}
    assert not any("short-secret" in part for found in short for part in found)
    assert bad(secrets.check_secrets(settings(auth__secret="ab" * 20))) == {"auth.secret": Grade.WARN}
    assert bad(secrets.check_secrets(settings())) == {"auth.secret": Grade.FAIL, "cluster.secret": Grade.FAIL}


def test_a_secret_that_stands_for_two_things_or_with_quotation_marks_is_found() -> None:
    other = GOOD[::-1]
    assert bad(
        secrets.check_secrets(settings(auth__secret=GOOD, auth__secret_second=other, cluster__secret=other))
    ) == {"cluster.secret": Grade.WARN}
    assert bad(secrets.check_secrets(settings(auth__secret=GOOD, auth__secret_second=GOOD))) == {
        "auth.secret_second": Grade.WARN
    }
    for odd in (f"'{GOOD}'", f" {GOOD}", f"{GOOD}\n"):
        assert bad(secrets.check_secrets(settings(auth__secret=odd))) == {"auth.secret": Grade.WARN}


def test_a_variable_that_is_not_read_is_found() -> None:
    named = {"HEADGATE_AUTH_SECRET": GOOD, "HEADGATE_AUTH_SECRET_FILE": "/run/secret"}
    others = {"HEADGATE_AUTH__SECRET": GOOD, "HEADGATE_CONFIG": "x", "HEADGATE_INGEST_PORT": "tcp://10.0.0.1:8080"}
    assert set(bad(environment.check_variables(named | others))) == {f"environment.{name}" for name in named}


def test_one_port_for_two_things_is_found() -> None:
    twice = {"gateway__port": "9090", "admin__port": "9090"}
    assert bad(machine.check_ports(settings(**twice), "gateway")) == {"gateway.port": Grade.FAIL}
    apart = settings(**twice, gateway__host="10.0.0.1", admin__host="127.0.0.1")
    assert bad(machine.check_ports(apart, "gateway")) == {}
    assert bad(machine.check_ports(settings(), "gateway")) == {}


def test_pages_of_anybody_are_found() -> None:
    assert bad(secrets.check_origins(settings(http__origins="https://a.example"))) == {}
    assert bad(secrets.check_origins(settings(http__origins="*"))) == {"http.origins": Grade.WARN}


async def test_a_key_server_that_does_not_answer_is_found() -> None:
    found = [each async for each in secrets.check_keys(settings(auth__jwks_url="http://127.0.0.1:9/keys"))]
    assert [(each.check, each.status) for each in found] == [("auth.jwks_url", Grade.FAIL)]
    assert [each async for each in secrets.check_keys(settings())] == []


def test_certificates_that_end_are_found_in_time(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    good = authority.sign("good", valid=(-DAY, 400 * DAY))
    soon = authority.sign("soon", valid=(-DAY, 29 * DAY))
    ended = authority.sign("ended", valid=(-2 * DAY, -DAY))
    early = authority.sign("early", valid=(DAY, 400 * DAY))
    states = [certificates.check_certificate("c", pair.certificate, NOW).status for pair in (good, soon, ended, early)]
    assert states == [Grade.OK, Grade.WARN, Grade.FAIL, Grade.FAIL]
    assert certificates.check_certificate("c", tmp_path / "none.pem", NOW).status is Grade.FAIL
    wrong = TlsFiles(authority.ca, good.certificate, soon.key)
    assert bad(certificates.check_link_files(wrong, NOW)) == {"cluster.tls": Grade.FAIL}
    right = TlsFiles(authority.ca, ended.certificate, ended.key)
    found = bad(certificates.check_link_files(right, NOW))
    assert found["cluster.tls.certificate"] is Grade.FAIL
    assert bad(certificates.check_link_files(None, NOW)) == {}


def test_too_few_descriptors_are_found() -> None:
    hard = SPARE_DESCRIPTORS + machine.DESCRIPTORS
    assert machine.check_descriptors(settings(), hard).status is Grade.OK
    assert machine.check_descriptors(settings(), hard - 1).status is Grade.WARN
    assert machine.check_descriptors(settings(limits__connections="10001"), hard).status is Grade.FAIL
    assert machine.check_descriptors(settings(), resource.RLIM_INFINITY).status is Grade.OK


def test_requests_that_could_fill_the_memory_are_found() -> None:
    held = settings().limits.held_bytes
    assert machine.check_memory(settings(), None).status is Grade.OK
    assert machine.check_memory(settings(), held * 2).status is Grade.OK
    assert machine.check_memory(settings(), held * 2 - 1).status is Grade.FAIL


def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_folder(tmp_path / "new" / "folder").status is Grade.OK
    (tmp_path / "file").write_text("")
    assert machine.check_folder(tmp_path / "file" / "index").status is Grade.FAIL
    usage = shutil.disk_usage(tmp_path)
    for free, status in ((machine.FULL_BYTES - 1, Grade.FAIL), (machine.LOW_BYTES - 1, Grade.WARN)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage._replace(free=free))
        assert machine.check_folder(tmp_path).status is status


def test_an_address_that_others_cannot_reach_is_found() -> None:
    lonely = settings(dispatcher__host="0.0.0.0", dispatcher__advertise="127.0.0.1:8090")
    assert machine.check_address(lonely).status is Grade.WARN
    assert machine.check_address(settings(dispatcher__host="127.0.0.1")).status is Grade.OK
    assert machine.check_address(settings(dispatcher__advertise="10.0.0.1:8090")).status is Grade.OK


@pytest.mark.parametrize(
    ("name", "value", "check", "status"),
    [
        ("broker.session.timeout.ms", "9000", "kafka.broker_session", Grade.WARN),
        ("message.max.bytes", "100000", "kafka.message_size", Grade.FAIL),
        ("unclean.leader.election.enable", "true", "kafka.unclean_election", Grade.FAIL),
        ("auto.create.topics.enable", "true", "kafka.auto_create", Grade.WARN),
    ],
)
def test_settings_of_any_broker_that_hurt_are_found(name: str, value: str, check: str, status: Grade) -> None:
    good: dict[str, str | None] = {
        "broker.session.timeout.ms": "3000",
        "message.max.bytes": "1048588",
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "false",
    }
    assert bad(kafka_checks.check_brokers({"1": good, "2": good})) == {}
    assert bad(kafka_checks.check_brokers({"1": good, "2": good | {name: value}})) == {check: status}


def test_brokers_that_do_not_tell_their_settings_are_found() -> None:
    assert bad(kafka_checks.check_brokers({})) == {"kafka.brokers": Grade.WARN}
    assert bad(kafka_checks.check_brokers({"1": {}, "2": None})) == {"kafka.brokers": Grade.WARN}


def test_clocks_that_differ_are_found() -> None:
    assert kafka_checks.check_clock(1_000, 900, 1_100).status is Grade.OK
    assert kafka_checks.check_clock(2_100, 900, 1_100).status is Grade.WARN
    assert kafka_checks.check_clock(6_100, 900, 1_100).status is Grade.FAIL
    assert kafka_checks.check_clock(1_000, 6_000, 6_100).status is Grade.FAIL
