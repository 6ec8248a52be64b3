"""Where the chat of `headgate dev --demo` is: in the installed package, or in `examples/chat` of the repository."""

from pathlib import Path
from typing import Final

from headgate.cli.invocation import CommandFailed

INSTALLED: Final = Path(__file__).with_name("chat")  # the wheel has a copy here: pyproject.toml, force-include
REPOSITORY: Final = Path(__file__).parents[2] / "examples" / "chat"


def chat_folder() -> Path:
    """Returns the folder of the page. Raises CommandFailed where it is missing."""
    for folder in (INSTALLED, REPOSITORY):
        if (folder / "index.html").is_file():
            return folder
    raise CommandFailed(f"the files of the chat are not in {INSTALLED}; install headgate again")
