"""Checks that the dispatchers named in `cluster.dispatchers` can be reached and take our secret or certificate."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from headgate.runtime.findings import Finding, fail, ok, warn
from headgate.runtime.links.tls import BadTlsFiles, LinkTls
from headgate.runtime.links.websocket_link import Credentials, open_link
from headgate.runtime.ports import Rng
from headgate.runtime.settings import Settings

_NODE: Final = "doctor"


async def check_links(settings: Settings, rng: Rng) -> AsyncIterator[Finding]:
    """Opens a link to each dispatcher and ends it after both have proved themselves: no role notices."""
    secret = settings.cluster_secret_or_none()
    if secret is None:
        return  # said by the check of secrets
    try:
        files = settings.cluster.tls.files()
        credentials = Credentials(secret, None if files is None else LinkTls(files))
    except BadTlsFiles:
        return  # said by the check of certificates
    for address, times in Counter(settings.cluster.dispatchers).items():
        name = f"links.{address}"
        if times > 1:
            yield warn("cluster.dispatchers", f"{address} is named {times} times", "name each dispatcher once")
        try:
            wire = await open_link(address, credentials, "gateway", _NODE, rng)
        except ConnectionError as error:
            yield fail(name, str(error), "start the dispatcher, or mend cluster.dispatchers, secret and tls")
            continue
        wire.close("the doctor has seen enough")
        await wire.run()
        yield ok(name, "it answers and takes our secret")
