"""The OpenAPI document against a running server, with schemathesis: every answer that it names is reached and fits.

Generated requests look for answers that it does not name. What a stream answers is the vectors' part.
"""

import secrets
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from headgate.runtime.api.openapi import openapi_document
from tests.e2e.api_recipes import ADMIN, GREEDY, LITTLE, NOBODY, OWNER, PUBLISHER, RECIPES, STRANGER, USED_KEY, Recipe
from tests.e2e.prepared_letters import write_letters
from tests.vectors.served import Served
from tests.vectors.tokens import SECRET, sign

DOCUMENT: Final = openapi_document()
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS: Final = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
EXAMPLES: Final = 25  # generated requests of each operation
ANSWER_S: Final = 30.0
SMALL_RATES: Final = (  # so that they are used up soon
    *("--limits.reads_per_user_per_min", "60", "--limits.creations_per_user_per_min", "20"),
    *("--limits.publish_per_user_per_min", "30"),
)
TRIES: Final = 10  # a rate may have room again before the request comes, and a batch is bounded by its bytes
CLAIMS: Final[dict[str, dict[str, Any]]] = {LITTLE: {"only": True}, ADMIN: {"admin": True}, OWNER: {"service": True}}
OPERATIONS: Final = {
    operation.definition.raw["operationId"]: operation
    for operation in (found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok))
    if operation.definition.raw["tags"] != ["streams"]
}


class Scene:
    """A server with the topics that the recipes name, and the users' tokens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages = {"$unknown": "00000000-0000-8000-8000-000000000000"}  # by the names that recipes use
        self._tokens = {
            who: sign({"claims": {"headgate": CLAIMS.get(who, {})}}, who)
            for who in (OWNER, STRANGER, PUBLISHER, LITTLE, GREEDY, ADMIN)
        }
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=ANSWER_S, trust_env=False)
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()
        self.session.close()

    def headers(self, who: str) -> dict[str, str]:
        """Returns the credentials of a user, none for NOBODY."""
        return {"Authorization": f"Bearer {self._tokens[who]}"} if who != NOBODY else {}

    def build_letters(self) -> int:
        """Makes the topic of the dead letters, which keeps all messages but the first; returns its epoch."""
        topic = {"name": "letters", "topic_id": "letters", "settings": {"retention_messages": 2}}
        epoch: int = self._done(OWNER, "POST", "/topics", topic).json()["epoch"]
        for _ in range(3):
            self._published(OWNER, "letters")
        return epoch

    def build(self) -> None:
        """Makes the topics."""
        for topic_id, extra in (
            ("open", {}),
            ("old", {}),
            ("readable", {"permissions": "SUBSCRIBE_ONLY"}),
            ("writable", {"permissions": "PUBLISH_ONLY"}),
            ("short", {"settings": {"retention_messages": 1}}),
            ("passing", {"settings": {"profile": "ephemeral"}}),
        ):
            self._done(OWNER, "POST", "/topics", {"name": topic_id, "topic_id": topic_id, **extra})
        keyed = {"name": "n", "topic_id": "keyed"}
        self._done(OWNER, "POST", "/topics", keyed, USED_KEY)
        self._done(OWNER, "PUT", "/topics/keyed/members/anna", {"role": "member"}, USED_KEY)
        for number in range(3):
            self._done(OWNER, "POST", "/topics/short/publish?wait=sequenced", {"payload": number})
        self._done(OWNER, "POST", "/topics/open/publish", {"payload": 1, "client_msg_id": "used"})
        self._done(GREEDY, "POST", "/topics", {"name": "n", "topic_id": "greedys"})
        self._done(OWNER, "POST", "/direct", {"user_id": "anna"}, USED_KEY)
        self._done(OWNER, "POST", "/tickets", {}, USED_KEY)
        self._done(ADMIN, "POST", "/revocations", {"user_id": "nobody"}, USED_KEY)
        self._done(OWNER, "PUT", "/topics/open/members/anna", {"role": "member"}, {"Idempotency-Key": "used"})
        self._done(OWNER, "PUT", f"/topics/writable/members/{PUBLISHER}", {"role": "publisher"})
        for name in ("mine", "draft", "draft2", "draft3", "doomed", "doomed2", "redacted"):
            self.messages[f"${name}"] = self._published(OWNER, "open")
        self.messages["$hidden"] = self._published(OWNER, "writable")
        self.messages["$greedys"] = self._published(GREEDY, "open")
        self._done(OWNER, "DELETE", f"/topics/open/messages/{self.messages['$redacted']}", None)
        edit = f"/topics/open/messages/{self.messages['$draft2']}"
        self._done(OWNER, "PATCH", edit, {"payload": 1, "version": 1}, USED_KEY)

    def _published(self, who: str, topic_id: str) -> str:
        answer = self._done(who, "POST", f"/topics/{topic_id}/publish?wait=sequenced", {"payload": 1})
        message_id: str = answer.json()["message_id"]
        return message_id

    def use_up_rates(self) -> None:
        """Spends all that the greedy user may read, create and publish now."""
        for method, path, body in (
            ("POST", "/topics", {"name": "n"}),
            ("POST", "/topics/open/publish", {"payload": 1}),
            ("GET", "/topics/open", None),
        ):
            while self._ask(GREEDY, method, path, body).status_code != 429:
                pass

    def filled(self, value: Any) -> Any:
        """Returns a value of a recipe with the names of messages replaced."""
        if isinstance(value, dict):
            return {name: self.filled(inner) for name, inner in value.items()}
        if value == "$fresh":
            return secrets.token_hex(8)
        return self.messages.get(value, value) if isinstance(value, str) else value

    def _done(
        self, who: str, method: str, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        answer = self._ask(who, method, path, body, headers)
        assert answer.is_success, answer.text
        return answer

    def _ask(
        self, who: str, method: str, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self._http.request(method, path, json=body, headers=self.headers(who) | (headers or {}))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("data")
    flags = ("--auth.secret", SECRET, "--topics.auto_create", "false", "--dev.data", str(folder), *SMALL_RATES)
    with Served(*flags) as server:
        before = Scene(server.url)
        epoch = before.build_letters()
        before.close()
        server.terminate()
        server.process.wait(ANSWER_S)
    letters = write_letters(folder, "letters", epoch, {"$letter_gone": 1, "$letter1": 2, "$letter2": 3})
    with Served(*flags) as server:
        scene = Scene(server.url)
        scene.messages |= letters
        scene.build()
        yield scene
        scene.close()


def documented(operation_id: str) -> set[int]:
    """Returns the statuses that the document names for an operation."""
    return {int(status) for status in OPERATIONS[operation_id].definition.raw["responses"] if status.isdigit()}


def request(scene: Scene, operation_id: str, recipe: Recipe) -> tuple[Any, Any]:
    case = OPERATIONS[operation_id].Case(
        path_parameters=scene.filled(dict(recipe.path)),
        query=dict(recipe.query),
        headers={**scene.headers(recipe.who), **recipe.headers},
        **({} if recipe.body is None else {"body": scene.filled(recipe.body), "media_type": recipe.media_type}),
    )
    raw: dict[str, Any] = {"timeout": ANSWER_S}
    if recipe.raw is not None:
        raw |= {"data": recipe.raw, "headers": {"Content-Type": recipe.media_type}}
    return case, case.call(base_url=scene.url, session=scene.session, **raw)


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_each_documented_answer_is_reached_and_fits(scene: Scene, operation_id: str) -> None:
    recipes = RECIPES[operation_id]
    assert set(recipes) == documented(operation_id)
    for status, recipe in sorted(recipes.items(), key=lambda item: (item[0] < 400, item[0])):
        for _ in range(TRIES if status == 429 else 1):
            if status == 429:
                scene.use_up_rates()
            case, response = request(scene, operation_id, recipe)
            if response.status_code == status:
                break
        assert response.status_code == status, f"{operation_id}: {response.status_code} {response.text[:300]}"
        case.validate_response(response, checks=CHECKS)


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_no_generated_request_gets_an_answer_that_the_document_does_not_name(scene: Scene, operation_id: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[operation_id].as_strategy())
    def generated(case: Any) -> None:
        headers = scene.headers(OWNER)
        response = case.call(base_url=scene.url, session=scene.session, headers=headers, timeout=ANSWER_S)
        case.validate_response(response, checks=CHECKS)

    generated()
