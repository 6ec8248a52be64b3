"""The public workflows do what CI does here, with no more rights than they need and pinned actions."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.places import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true
    return {"on" if key is True else key: value for key, value in yaml.safe_load(file.read_text("utf-8")).items()}


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in read(file)["jobs"].values() for step in job["steps"]]


def commands(file: Path) -> list[str]:
    return [step["run"] for step in steps(file) if "run" in step]


def test_there_is_one_for_changes_and_one_for_releases() -> None:
    assert [file.stem for file in FILES] == ["ci", "release"]
    ci, release = map(read, FILES)
    assert set(ci["on"]) == {"push", "pull_request"} and release["on"] == {"push": {"tags": ["v*"]}}


@each_file
def test_jobs_may_read_the_repository_and_end(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job and job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


@each_file
def test_actions_are_pinned_and_keep_no_credentials(file: Path) -> None:
    used = [step for step in steps(file) if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]) for step in used)
    checkouts = [step for step in used if "/checkout@" in step["uses"]]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_file
def test_they_run_the_repositorys_own_commands(file: Path) -> None:
    run = commands(file)
    assert ".ci/run" in run and "make image-test" in run
    called = {name for line in run for name in re.findall(r"\bmake (?:--silent )?([a-z-]+)", line)}
    assert called <= TARGETS, "a target that the Makefile does not have"
    assert not any("${{" in line for line in run), "text of others is no part of a command"


def test_a_release_is_refused_where_the_tag_is_not_the_version() -> None:
    first = commands(FILES[1])[0]
    assert first == 'test "v$(make --silent version)" = "$GITHUB_REF_NAME"'


def test_a_release_has_every_file_of_its_page_and_a_checksum_of_each() -> None:
    page = (ROOT / "docs" / "project" / "releasing.md").read_text("utf-8")
    rows = re.findall(r"^\|.*\| `((?:make|helm|npm) [a-z-]+).*\|$", page, re.MULTILINE)
    made = commands(FILES[1])
    assert rows == ["make release-files", "helm package", "make image", "npm ci", "make checksums"]
    assert all(any(row in command for command in made) for row in rows)
    assert any("npm pack" in command for command in made)
    last = max(number for number, command in enumerate(made) if "build/release" in command)
    assert made[last + 1 :] == ["make checksums"], "checksums of files that come later are missing"


@each_file
def test_a_command_that_fails_in_a_pipe_ends_the_job(file: Path) -> None:
    """Without `shell: bash` the runner knows no pipefail: half an image would be a file of the release."""
    assert not [step["run"] for step in steps(file) if "|" in step.get("run", "") and step.get("shell") != "bash"]
