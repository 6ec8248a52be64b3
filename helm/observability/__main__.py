"""Writes the alert rules and dashboards into the chart: `python -m helm.observability`."""

import sys

from helm.observability.files import ROOT, contents


def main() -> int:
    """Writes every file. Returns the exit status."""
    for path, text in contents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        sys.stderr.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
