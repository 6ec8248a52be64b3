"""docs/protocol.md, section 9: where a setting comes from, what is refused, and the defaults of a role."""

from pathlib import Path

import pytest

from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import KEEP_MS
from headgate.runtime.settings import NAMES, Role, Settings, SettingsError, advertised, load, resolve

KAFKA = {"log.url": "kafka://a:9092,b:9092"}
SECRET = {"auth.secret": "s" * 32}
JWKS = {"auth.jwks_url": "https://id.example/keys?tenant=1"}
NOT_BUILT = [("gateway.publish", "true")]


def entry(settings: Settings, name: str) -> tuple[object, str]:
    (found,) = [e for e in settings.report() if e["name"] == name]
    return found["value"], found["source"]


def refused(flags: dict[str, str], environ: dict[str, str] | None = None, path: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags, path, environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_by(role: Role, flags: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(load(flags, None, {}), role)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dev.port", 8080),
        ("ingest.port", 8080),
        ("gateway.port", 8081),
        ("dispatcher.port", 8090),
        ("admin.port", 9090),
        ("dev.host", "127.0.0.1"),
        ("ingest.host", "::"),
        ("gateway.host", "::"),
        ("dispatcher.host", "::"),
        ("dispatcher.data", "headgate-data"),
        ("drain.deadline_s", 20.0),
        ("log.prefix", "headgate"),
        ("heartbeat.interval", 30.0),
        ("heartbeat.missed_limit", 2),
        ("client.url", "http://127.0.0.1:8080"),
        ("auth.query_token", True),
        ("limits.payload_bytes", 65_536),
        ("limits.topics_per_connection", 128),
        ("limits.connections_per_user", 20),
        ("limits.batch_items", 1_000),
    ],
)
def test_defaults_of_the_protocol_page(name: str, value: object) -> None:
    assert entry(load({}, None, {}), name) == (value, "default")


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text('[dev]\nport = 1\nhost = "localhost"\n[drain]\ndeadline_s = 2.5\n')
    settings = load({"dev.port": "3"}, path, {"HEADGATE_DEV__PORT": "2", "HEADGATE_DEV__HOST": "::1"})
    assert entry(settings, "dev.port") == (3, "flag")
    assert entry(settings, "dev.host") == ("::1", "env")
    assert entry(settings, "drain.deadline_s") == (2.5, "file")
    assert entry(settings, "admin.port") == (9090, "default")


def test_every_setting_that_has_an_effect_is_reported_once() -> None:
    reported = [e["name"] for e in load({}, None, {}).report()]
    assert len(set(reported)) == len(reported)
    assert set(NAMES) - set(reported) == {name for name, _ in NOT_BUILT}


def test_a_secret_is_masked_and_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("top secret\n")
    settings = load({}, None, {"HEADGATE_AUTH__SECRET_FILE": str(path)})
    assert settings.auth.secret is not None
    assert settings.auth.secret.get_secret_value() == "top secret"
    assert entry(settings, "auth.secret") == ("****", "env")
    assert entry(settings, "cluster.secret") == (None, "default")
    assert "top secret" not in f"{settings!r} {settings.report()}"


def test_a_stronger_source_beats_the_secrets_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("weak")
    settings = load({"auth.secret": "strong"}, None, {"HEADGATE_AUTH__SECRET_FILE": str(path)})
    assert settings.auth.secret is not None
    assert settings.auth.secret.get_secret_value() == "strong"


@pytest.mark.parametrize(
    ("flags", "environ", "nearest"),
    [
        ({"dev.prot": "1"}, {}, "dev.port"),
        ({"log.security.passwrd": "1"}, {}, "log.security.password"),
        ({}, {"HEADGATE_AUTH__SECRT": "x"}, "HEADGATE_AUTH__SECRET (auth.secret)"),
        ({}, {"HEADGATE_LIMITS__PAYLOAD": ""}, "limits.payload_bytes"),
        ({"zzz.qqq": "1"}, {}, "the nearest known one is "),
    ],
)
def test_an_unknown_name_names_the_nearest(flags: dict[str, str], environ: dict[str, str], nearest: str) -> None:
    assert nearest in refused(flags, environ)


def test_an_unknown_name_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text("[gateway]\nprot = 1\n")
    assert "gateway.port" in refused({}, path=path)


def test_variables_without_two_underscores_are_not_settings() -> None:
    load({}, None, {"HEADGATE_TEST_KAFKA": "a:1", "HEADGATE": "x", "OTHER__THING": "y", "HEADGATE_DEV__DATA": ""})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("log.url", "kafka:///", "no host:port"),
        ("log.url", "postgres://x", "memory:"),
        ("log.url", "kafka://h:port", "no port"),
        ("dev.port", "http", "dev.port"),
        ("dev.port", "70000", "65535"),
        ("heartbeat.interval", "0", "greater than 0"),
        ("heartbeat.interval", "inf", "finite"),
        ("auth.mode", "closed", "'jwt' or 'open'"),
        ("auth.secret", "", "empty"),
        ("cluster.dispatchers", "a:1,b", "'b'"),
        ("http.origins", "https://a.example/path", "origin"),
        ("client.url", "127.0.0.1:8080", "http://"),
        ("limits.topics_per_connection", "1001", "1000"),
        ("log.security.protocol", "SASL_SSL", "user"),
        ("log.security.user", "me", "logs nobody in, but user is set"),
        ("log.security.mechanism", "SCRAM-SHA-512", "logs nobody in, but mechanism is set"),
        ("log.security.ca", "/etc/ca.pem", "PLAINTEXT uses no TLS, but ca is set"),
        ("drain.spread_s", "20.5", "spread_s 20.5 is above deadline_s 20"),
        ("auth.jwks_url", "file:///etc/keys", "https://host/path"),
        ("auth.jwks_url", "https://me:pw@id.example/keys", "without user and password"),
        ("auth.secret_second", "s" * 32, "auth.secret, which signs"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(name: str, value: str, says: str) -> None:
    assert says in refused({name: value})


@pytest.mark.parametrize(("name", "value"), NOT_BUILT)
def test_what_is_not_built_says_so(name: str, value: str) -> None:
    assert "not built yet" in refused({name: value})
    load({"gateway.publish": "false"}, None, {})


def test_a_topic_goes_to_the_inbox_and_back_where_the_settings_say_so() -> None:
    for flags, bounds in [
        ({}, (10_000, 8_000)),
        ({"hot.enter": "50"}, (50, 40)),
        ({"hot.enter": "50", "hot.exit": "0"}, (50, 0)),
        ({"hot.enter": "50000"}, (50_000, 8_000)),
    ]:
        settings = load(flags, None, {})
        usual = settings.usual_of_topics()
        assert (usual["hot_enter"], usual["hot_exit"], usual["rate_limit"]["per_s"]) == (*bounds, 100)
        assert entry(resolve(settings, "dev"), "hot.exit")[0] == bounds[1]
    usual = load({"limits.publish_per_topic_per_s": "1000"}, None, {}).usual_of_topics()
    assert usual["rate_limit"] == {"per_s": 1_000, "burst": 2_000}
    assert "hot.exit is 50 and must be below hot.enter" in refused({"hot.enter": "50", "hot.exit": "50"})


def test_a_secret_never_stands_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text("[auth]\nsecret = 12345678\n")
    assert "12345678" not in refused({}, path=path)


@pytest.mark.parametrize("url", ["http://me:top-secret@h:1", "https://me:top-secret@h/x", "http://me:top:secret@@h"])
def test_a_password_in_a_url_is_not_shown(url: str) -> None:
    shown = str(entry(load({"client.url": url}, None, {}), "client.url")[0])
    assert "secret" not in shown and shown.startswith(url.partition("top")[0] + "****@")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.url", "kafka://me:top-secret@h:9092"),
        ("log.url", "kafka://me:top-secret@h:port"),
        ("log.url", "kafka://h:1,me:top-secret@h:2"),
        ("log.url", "postgres://me:top-secret@h"),
        ("dev.port", "http://me:top-secret@h"),
        ("cluster.dispatchers", "me:top-secret@h:1"),
        ("http.origins", "https://me:top-secret@h"),
    ],
)
def test_a_password_in_a_url_is_not_repeated_by_an_error(name: str, value: str) -> None:
    assert "secret" not in refused({name: value})


@pytest.mark.parametrize("content", [None, "not toml", b"\xff\xfe"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "headgate.toml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert "headgate.toml" in refused({}, path=path)


def test_lists_are_separated_by_commas() -> None:
    settings = load({"cluster.dispatchers": "a:1, b:2", "http.origins": "https://A.example, *"}, None, {})
    assert settings.cluster.dispatchers == ("a:1", "b:2")
    assert settings.http.origins == ("https://a.example", "*")


class TestRoles:
    """What each role makes of what is left unset, and what it refuses."""

    def test_dev_is_open_on_loopback_and_creates_topics(self) -> None:
        settings = resolve(load({}, None, {}), "dev")
        assert settings.auth.mode == "open"
        assert settings.topics.auto_create is True
        assert settings.http.origins == ("loopback",)
        assert settings.admin.host == "127.0.0.1"
        assert settings.log.url == "memory:"

    def test_dev_keeps_everything_under_its_folder(self) -> None:
        settings = resolve(load({"dev.data": "/d"}, None, {}), "dev")
        assert settings.log.url == "sqlite:/d/log.db"
        assert settings.dispatcher.data == Path("/d")

    def test_dev_takes_a_log_it_is_given(self) -> None:
        assert resolve(load({"dev.data": "/d"} | KAFKA, None, {}), "dev").log.url == KAFKA["log.url"]

    @pytest.mark.parametrize("flags", [{"dev.host": "::"}, {"auth.mode": "jwt"}])
    def test_dev_needs_a_secret_where_it_is_not_open(self, flags: dict[str, str]) -> None:
        assert "auth.secret" in refused_by("dev", flags)
        assert resolve(load(flags | SECRET, None, {}), "dev").auth.mode == "jwt"

    def test_dev_with_a_secret_checks_tokens(self) -> None:
        assert resolve(load(SECRET, None, {}), "dev").auth.mode == "jwt"

    def test_dev_with_a_key_server_checks_tokens(self) -> None:
        assert resolve(load(JWKS, None, {}), "dev").auth.mode == "jwt"

    def test_a_key_server_is_enough_where_the_cluster_has_its_own_secret(self) -> None:
        assert "cluster.secret" in refused_by("ingest", KAFKA | JWKS)
        settings = resolve(load(KAFKA | JWKS | {"cluster.secret": "c" * 32}, None, {}), "ingest")
        assert settings.token_secrets() == (None, None)

    def test_both_secrets_of_a_rotation_may_stand_in_files(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("o" * 32)
        second = {"HEADGATE_AUTH__SECRET_SECOND_FILE": str(tmp_path / "old")}
        settings = resolve(load(KAFKA | SECRET, None, second), "gateway")
        assert settings.token_secrets() == ("s" * 32, "o" * 32)
        assert entry(settings, "auth.secret_second")[0] == "****"

    def test_open_is_refused_off_loopback(self) -> None:
        assert "open" in refused_by("dev", {"auth.mode": "open", "dev.host": "::"})
        assert "open" in refused_by("ingest", {"auth.mode": "open"} | KAFKA)
        assert "open" in refused_by("gateway", {"auth.mode": "open"})

    @pytest.mark.parametrize("role", ["ingest", "dispatcher", "init"])
    def test_production_needs_kafka(self, role: Role) -> None:
        assert "kafka://" in refused_by(role, SECRET)
        assert "kafka://" in refused_by(role, SECRET | {"log.url": "memory:"})
        resolve(load(SECRET | KAFKA, None, {}), role)

    def test_a_gateway_needs_no_log_but_a_secret(self) -> None:
        assert "auth.secret" in refused_by("gateway", {})
        settings = resolve(load(SECRET, None, {}), "gateway")
        assert settings.topics.auto_create is False
        assert settings.http.origins == ()
        assert settings.admin.host == "::"

    def test_a_dispatcher_needs_a_secret_of_either_kind(self) -> None:
        assert "cluster.secret" in refused_by("dispatcher", KAFKA)
        own = resolve(load(KAFKA | {"cluster.secret": "c" * 32}, None, {}), "dispatcher")
        derived = resolve(load(KAFKA | SECRET, None, {}), "dispatcher")
        assert own.cluster_secret() == b"c" * 32
        assert own.auth.secret is None, "it signs no tokens and verifies none"
        assert derived.cluster_secret() not in (b"", SECRET["auth.secret"].encode())

    @pytest.mark.parametrize("role", ["ingest", "dispatcher", "gateway"])
    @pytest.mark.parametrize("name", ["auth.secret", "auth.secret_second", "cluster.secret"])
    def test_production_refuses_a_secret_that_can_be_guessed(self, role: Role, name: str) -> None:
        for short in ("x", "x" * 31, "ä" * 15):
            error = refused_by(role, KAFKA | SECRET | {name: short})
            assert f"{name} of 32 bytes" in error and "x" * 31 not in error
        resolve(load(KAFKA | SECRET | {name: "ä" * 16}, None, {}), role)

    def test_dev_takes_a_short_secret(self) -> None:
        assert resolve(load({"auth.secret": "x"}, None, {}), "dev").auth.mode == "jwt"

    def test_sources_survive(self) -> None:
        assert entry(resolve(load(SECRET | KAFKA, None, {}), "ingest"), "log.url")[1] == "flag"


def test_advertised_is_loopback_where_the_host_is() -> None:
    assert advertised(load({"dispatcher.host": "127.0.0.1"}, None, {}), 7) == "127.0.0.1:7"
    assert advertised(load({"dispatcher.advertise": "d-1:9"}, None, {}), 7) == "d-1:9"


def test_log_options_carry_the_credentials() -> None:
    flags = {"log.security.protocol": "SASL_SSL", "log.security.user": "u", "log.security.password": "p"}
    options = load(KAFKA | flags, None, {}).log_options()
    assert (options.security.user, options.security.password, options.url) == ("u", "p", KAFKA["log.url"])


def test_how_long_messages_are_kept_is_a_setting_of_every_log() -> None:
    flags = {"log.retention_ms": "3600000", "log.dead_letters_retention_ms": "60000"}
    for settings in (resolve(load(flags, None, {}), "dev"), load(KAFKA | flags, None, {})):
        keep_ms = settings.log_options().keep_ms
        assert keep_ms == {LogName.MESSAGES: 3_600_000, LogName.INBOX: 3_600_000, LogName.DEAD_LETTERS: 60_000}
    assert resolve(load({}, None, {}), "dev").log_options().keep_ms == KEEP_MS
    assert "log.retention_ms" in refused_by("dev", {"log.retention_ms": "59999"})


def test_a_bound_in_bytes_is_kafkas() -> None:
    flags = {"log.retention_bytes": "1000000"}
    assert load(KAFKA | flags, None, {}).log_options().keep_bytes == 1_000_000
    assert "log.retention_bytes is for Kafka" in refused_by("dev", flags)


@pytest.mark.parametrize("given", [("ca",), ("certificate",), ("key",), ("certificate", "key"), ("server_name",)])
def test_cluster_tls_needs_an_authority_and_a_certificate(given: tuple[str, ...]) -> None:
    line = refused({f"cluster.tls.{name}": "x.pem" for name in given})
    assert "cluster.tls needs ca and certificate" in line


def test_cluster_tls_is_off_or_whole() -> None:
    assert load({}, None, {}).cluster.tls.files() is None
    whole = load({"cluster.tls.ca": "ca.pem", "cluster.tls.certificate": "c.pem"}, None, {}).cluster.tls.files()
    assert whole is not None
    assert (whole.ca, whole.certificate, whole.key, whole.server_name) == (Path("ca.pem"), Path("c.pem"), None, None)
