"""The list of components is what the lock file installs, each with its licence."""

import json
from pathlib import Path
from typing import Any

import pytest

from release.sbom import LOCK, differences, main, pins

TEXT = 'A_b==1.0 \\\n    --hash=sha256:00\n    # via c\nc==2.0 ; sys_platform == "win32" \\\n    --hash=sha256:11\n'


def component(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "licenses": [{"license": {"id": "MIT"}}]}


def bom(*components: dict[str, Any]) -> dict[str, Any]:
    return {"bomFormat": "CycloneDX", "components": list(components)}


def test_pins_are_those_of_this_platform() -> None:
    assert pins(TEXT, {"sys_platform": "linux"}) == {"a-b": "1.0"}
    assert pins(TEXT, {"sys_platform": "win32"}) == {"a-b": "1.0", "c": "2.0"}


def test_every_line_of_our_lock_is_a_pin() -> None:
    found = pins(LOCK.read_text("utf-8"), {"sys_platform": "linux", "platform_python_implementation": "CPython"})
    assert {"aiokafka", "uvloop", "websockets"} <= set(found) and "colorama" not in found
    assert all(version[0].isdigit() for version in found.values())


def test_what_is_locked_and_ours_is_right() -> None:
    assert differences(bom(component("A.b", "1.0"), component("headgate", "9.9")), {"a-b": "1.0"}) == []


def test_each_difference_is_named() -> None:
    unlicensed = component("d", "4") | {"licenses": []}
    found = differences(bom(component("b", "2"), component("c", "3"), unlicensed), {"a": "1", "b": "1", "d": "4"})
    assert found == [
        "a 1 is locked and not listed",
        "b is listed as 2 and locked as 1",
        "c 3 is listed and not locked",
        "d has no licence",
    ]
    assert differences({}, {}) == ["this is no CycloneDX file"]


def test_a_licence_that_the_lister_cannot_read_is_added(tmp_path: Path) -> None:
    lock, file = tmp_path / "image.lock", tmp_path / "sbom.cdx.json"
    lock.write_text("protobuf==1 \\\n", "utf-8")
    file.write_text(json.dumps(bom(component("protobuf", "1") | {"licenses": []})), "utf-8")
    assert main([str(file), str(lock)]) == 0
    (found,) = json.loads(file.read_text("utf-8"))["components"]
    assert found["licenses"] == [{"license": {"id": "BSD-3-Clause", "acknowledgement": "concluded"}}]


def test_the_command_ends_with_1_where_they_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, file = tmp_path / "image.lock", tmp_path / "sbom.cdx.json"
    lock.write_text("a==1 \\\n", "utf-8")
    file.write_text(json.dumps(bom(component("a", "1"))), "utf-8")
    assert main([str(file), str(lock)]) == 0 and "1 components, as in image.lock" in capsys.readouterr().out
    lock.write_text("a==2 \\\n", "utf-8")
    assert main([str(file), str(lock)]) == 1 and "locked as 2" in capsys.readouterr().out
