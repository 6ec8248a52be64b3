"""The version of this tree: `python -m release.version` checks that all files agree, with a version it writes it.

pyproject.toml is the source. Each place is a file and a pattern with one group, which has to occur as often as it says.
"""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
NUMBER: Final = r"\d+\.\d+\.\d+"  # no pre-release: Python, npm and Helm write them differently
UNRELEASED: Final = "## [Unreleased]\n"


class Place(NamedTuple):
    """Where the version stands: `pattern` has {} in the place of the version."""

    file: str
    pattern: str
    times: int = 1

    def expression(self) -> re.Pattern[str]:
        """Returns the pattern with a group for the text before the version, the version, and the text behind it."""
        before, _, behind = self.pattern.partition("{}")
        return re.compile(f"({before})({NUMBER})({behind})", re.MULTILINE)


SOURCE: Final = Place("pyproject.toml", '^version = "{}"$')
PLACES: Final = (
    SOURCE,
    Place("clients/python/pyproject.toml", '^version = "{}"$'),
    Place("clients/js/package.json", '^  "version": "{}",$'),
    Place("clients/js/package-lock.json", r'"name": "headgate-client",\n *"version": "{}",$', times=2),
    Place("headgate/__init__.py", '^__version__ = "{}"$'),
    Place("helm/headgate/Chart.yaml", "^version: {}$"),
    Place("helm/headgate/Chart.yaml", "^appVersion: {}$"),
    Place("helm/headgate/README.md", "Chart {}, "),
    Place("helm/headgate/README.md", "Headgate {}, "),
    Place("Makefile", r"^IMAGE \?= headgate:{}$"),
    Place("docker-compose.yml", "HEADGATE_IMAGE:-headgate:{}}"),
    Place("tests/deploy/on_engine.py", '"headgate:{}"'),
    Place("README.md", "^Status: {},"),
    Place("README.md", "headgate:{} ", times=2),
    Place("docs/operations.md", "headgate:{} ", times=3),
    Place("docs/protocol.md", "^Version {} serves "),
    Place("docs/how-to/python.md", "headgate_client-{}-py3"),
)


class WrongVersion(ValueError):
    """The files do not agree, or the version cannot be written."""


def version(root: Path = ROOT) -> str:
    """Returns the version of a tree. Raises WrongVersion with every place that does not have it."""
    of_source = _found(SOURCE, root)
    wanted = of_source[0] if of_source else "a version"
    wrong = []
    for place in PLACES:
        found = _found(place, root)
        if found != [wanted] * place.times:
            wrong.append(f"{place.file}: {place.pattern}: {found or 'nothing'}, expected {wanted} {place.times}x")
    if wrong:
        raise WrongVersion("\n".join(wrong))
    return wanted


def write(to: str, today: date, root: Path = ROOT) -> None:
    """Writes a version into all places, and its section with the date into the changelog. Raises WrongVersion."""
    if not re.fullmatch(NUMBER, to):
        raise WrongVersion(f"{to} is no version such as 1.2.3")
    if to == version(root):
        raise WrongVersion(f"the version is {to} already")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    if text.count(UNRELEASED) != 1 or f"\n## [{to}]" in text:
        raise WrongVersion(f"CHANGELOG.md needs one {UNRELEASED.strip()} and no [{to}]")
    changelog.write_text(text.replace(UNRELEASED, f"{UNRELEASED}\n## [{to}] - {today.isoformat()}\n"), "utf-8")
    for place in PLACES:
        file = root / place.file
        file.write_text(place.expression().sub(rf"\g<1>{to}\g<3>", file.read_text("utf-8")), "utf-8")
    _write_range(to, root)


def main(arguments: list[str]) -> int:
    """Returns the exit status; 1 with the reason where the files do not agree."""
    try:
        if arguments:
            write(arguments[0], datetime.now(UTC).date())
        print(version())
    except WrongVersion as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _found(place: Place, root: Path) -> list[str]:
    text = (root / place.file).read_text("utf-8")
    return [found[1] for found in place.expression().findall(text)]


def _write_range(to: str, root: Path) -> None:
    """The server takes the client of its own minor version: one that is older lacks what the command asks of it."""
    major, minor, _ = map(int, to.split("."))
    file = root / "pyproject.toml"
    wanted = f'"headgate-client>={major}.{minor},<{major}.{minor + 1}"'
    file.write_text(re.sub(r'"headgate-client>=[^"]+"', wanted, file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
