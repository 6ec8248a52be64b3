"""What a dispatcher keeps on its volume fits into it."""

from pathlib import Path

import pytest

from tests.deploy.places import CHART
from tests.deploy.rendered import chart, container, workloads

MINIMAL = CHART / "ci" / "minimal-values.yaml"


@pytest.mark.parametrize(("size", "total"), [
    ("10Gi", 8_053_063_680), ("1.5Ti", 1_236_950_581_248), ("500M", 375_000_000), ("4000000000", 3_000_000_000),
])  # fmt: skip
def test_index_files_fit_their_volume(helm: Path, size: str, total: int) -> None:
    key = "HEADGATE_INDEX__TOTAL_BYTES"

    def given(*more: str) -> list[str]:
        found = workloads(chart(helm, MINIMAL, f"--set-string=dispatcher.persistence.size={size}", *more))
        assert not [
            env for role in ("ingest", "gateway") for env in container(found[role])["env"] if env["name"] == key
        ]
        return [env["value"] for env in container(found["dispatcher"])["env"] if env["name"] == key]

    assert given() == [str(total)]
    assert given("--set=dispatcher.settings.index\\.total_bytes=5") == ["5"], "one's own counts"
