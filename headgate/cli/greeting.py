"""What `headgate dev` prints at its start."""

from headgate.runtime.settings import Settings
from headgate.runtime.sockets import ANY, authority


def greeting(settings: Settings, port: int, *, durable: bool, address: str) -> str:
    """Returns the text that `headgate dev` prints at its start: addresses, whether data survives, commands to copy."""
    host = "127.0.0.1" if settings.dev.host in ("0.0.0.0", ANY) else settings.dev.host  # noqa: S104 - compared, not bound
    base = authority(host, port)
    survives = (
        f"Messages are kept in {address}."
        if durable
        else ("The log is in memory: it is lost when this process ends (to keep it: --data DIR).")
    )
    is_open = settings.auth.mode == "open"
    who = "Anybody may do anything (auth.mode open)." if is_open else "Callers need a token (auth.mode jwt)."
    mint = "" if is_open else "TOKEN=$(headgate token mint --sub me)  # with the same auth.secret\n"
    token = "" if is_open else '-H "Authorization: Bearer $TOKEN" '
    chat = f"  Chat       http://{base}/  (open it in two browsers)\n" if settings.dev.demo else ""
    return f"""headgate dev is serving.
{chat}  HTTP       http://{base}/api/v1/topics
  WebSocket  ws://{base}/ws/subscribe?topic_id=hello
  SSE        http://{base}/sse/subscribe?topic_id=hello
  Metrics    http://{authority(settings.admin.host or "127.0.0.1", settings.admin.port)}/metrics
{survives} {who}

Listen in one terminal:
{mint}curl -N {token}'http://{base}/sse/subscribe?topic_id=hello'

Publish in another:
{mint}curl {token}-H 'Content-Type: application/json' -d '{{"payload":{{"text":"hello"}}}}' http://{base}/api/v1/topics/hello/publish

"""
