"""The stage and the figures of the end-to-end tests."""

from tests.e2e.conftest import figures, pytest_terminal_summary, stage

__all__ = ["figures", "pytest_terminal_summary", "stage"]
