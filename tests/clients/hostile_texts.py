"""Texts that a careless page would run, break on, or be fooled by."""

from typing import Final

_RUNS: Final = "fetch('/ran')"

MARKUP: Final = (
    f"<script>{_RUNS}</script>",
    f'<img src=x onerror="{_RUNS}">',
    f'<svg onload="{_RUNS}"><animate onbegin="{_RUNS}" attributeName=x dur=1s>',
    f'<iframe srcdoc="<script>parent.{_RUNS}</script>"></iframe>',
    f'"><body onfocus={_RUNS} autofocus tabindex=1>',
    f"'-{_RUNS}-'",
    f"`${{{_RUNS}}}`",
    "{{constructor.constructor('fetch(\"/ran\")')()}}",
    f"javascript:{_RUNS}",
    f'<a href="javascript:{_RUNS}">look</a>',
    f"<details open ontoggle={_RUNS}>",
    f'<math><mi//xlink:href="data:x,<script>{_RUNS}</script>">',
    "<style>@import '/ran';</style><link rel=stylesheet href=/ran>",
    f"<template><script>{_RUNS}</script></template>",
    f"&lt;script&gt;{_RUNS}&lt;/script&gt;",
    "</ol></div></main><h1>another page</h1>",
    "<form action=/ran><button id=send>Send</button></form>",
    "<base href=//evil.test/><meta http-equiv=refresh content='0;url=/ran'>",
    "__proto__",
    "constructor",
    "%3Cscript%3Efetch('/ran')%3C/script%3E",
)

FOOLING: Final = (
    "\u202etxt.exe\u202c behind",
    "\u2066\u2067\u2068 isolates that never end",
    "مرحبا بالعالم",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307" + "\u0308" * 200,
    "\u200b\u200c\u200d\u2060\ufeff",
    "👩‍👩‍👧‍👦" * 40,
    "W" * 4_000,
    "https://example.com/" + "a" * 2_000,
    "line\n" * 60,
    "nul \\u0000 and \u0001 controls",
)

TEXTS: Final = (*MARKUP, *FOOLING)


def as_name(text: str, most: int) -> str:
    """Returns the text as a user or a reaction that the server takes: printable, at most so many characters."""
    return "".join(filter(str.isprintable, text))[:most].strip() or "empty"
