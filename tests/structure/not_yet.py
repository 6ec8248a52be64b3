"""Offenders that are on their way out: each list only shrinks, and this file goes when they are empty."""

from typing import Final

IMPORTS: Final = set()
CLASSES: Final = set()
FILES: Final = set()
UNTESTED: Final = set()
