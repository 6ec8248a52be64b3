"""Every module of the core has its test module: headgate/core/WING/NAME.py and tests/core/WING/test_NAME.py."""

from pathlib import Path

from tests.structure.sources import ROOT

NO_BEHAVIOUR = {"fanout/ports": "protocols and one record of two fields: mypy checks them"}


def untested(root: Path) -> set[str]:
    core = root / "headgate" / "core"
    modules = {path.relative_to(core) for path in core.rglob("*.py") if path.name != "__init__.py"}
    tests = root / "tests" / "core"
    return {
        module.with_suffix("").as_posix()
        for module in modules
        if not (tests / module.with_name(f"test_{module.name}")).exists()
    }


def test_every_module_of_the_core_has_its_test_module() -> None:
    assert untested(ROOT) - set(NO_BEHAVIOUR) == set()


def test_a_module_without_its_test_module_is_found(tmp_path: Path) -> None:
    for name in ("headgate/core/wire/ids.py", "headgate/core/wire/link.py", "tests/core/wire/test_ids.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tests" / "core" / "test_link.py").touch()
    assert untested(tmp_path) == {"wire/link"}, "a test module in another folder does not count"
