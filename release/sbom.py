"""Compares a CycloneDX file with the lock file: `python -m release.sbom FILE [LOCK]`; the image's build runs it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements" / "image.lock"
UNSAID: Final = {"protobuf": "BSD-3-Clause"}  # by its LICENSE; the lister cannot read what its metadata says
OURS: Final = frozenset({"headgate", "headgate-client"})  # built from this tree, so no lock file names them


def pins(lock: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the version of each package that a lock file installs here, by canonical name.

    `environment` replaces values of this machine's markers, such as `sys_platform`.
    """
    lines = (line.removesuffix("\\") for line in lock.splitlines() if line and not line.startswith((" ", "#")))
    found = [Requirement(line.strip()) for line in lines]
    here = [each for each in found if each.marker is None or each.marker.evaluate(dict(environment or {}))]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in here}


def differences(bom: Mapping[str, Any], pinned: Mapping[str, str]) -> list[str]:
    """Returns what is wrong with a bill of materials, one line each: missing, not locked, other version, no licence."""
    listed = {canonicalize_name(each["name"]): each for each in bom.get("components", [])}
    wrong = [f"{name} {version} is locked and not listed" for name, version in pinned.items() if name not in listed]
    for name, component in listed.items():
        if name not in OURS and name not in pinned:
            wrong.append(f"{name} {component['version']} is listed and not locked")
        elif name in pinned and component["version"] != pinned[name]:
            wrong.append(f"{name} is listed as {component['version']} and locked as {pinned[name]}")
        if not component.get("licenses"):
            wrong.append(f"{name} has no licence")
    if bom.get("bomFormat") != "CycloneDX":
        wrong.append("this is no CycloneDX file")
    return sorted(wrong)


def complete(bom: dict[str, Any]) -> bool:
    """Adds the licences of UNSAID where there is none; returns whether it did."""
    missing = [each for each in bom.get("components", []) if each["name"] in UNSAID and not each.get("licenses")]
    for component in missing:
        component["licenses"] = [{"license": {"id": UNSAID[component["name"]], "acknowledgement": "concluded"}}]
    return bool(missing)


def main(arguments: list[str]) -> int:
    """Completes the file; prints what is wrong and returns 1, or prints how many components there are and returns 0."""
    file, lock = Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else LOCK
    bom = json.loads(file.read_text("utf-8"))
    if complete(bom):
        file.write_text(json.dumps(bom, indent=2) + "\n", "utf-8")
    wrong = differences(bom, pins(lock.read_text("utf-8")))
    print("\n".join(wrong) or f"{file}: {len(bom['components'])} components, as in {lock.name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
