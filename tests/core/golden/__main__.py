"""Writes the golden log anew."""

from tests.core.golden import write

write()
