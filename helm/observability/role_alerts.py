"""Alerts about processes and shards that are away: how many of each role are ready, and who owns what."""

from typing import Final

from helm.observability.alert import DISPATCHER, GATEWAY, INGEST, Alert, up
from helm.observability.queries import REPLICAS, healthy

_WANTED: Final = 'kube_deployment_spec_replicas{namespace="live",deployment="events-headgate-gateway"}'
_WANTED_TWICE: Final = {f'{_WANTED[:-1]},instance="kube-state-metrics-{n}"}}': "4x40" for n in (1, 2)}
_WANTED_INGESTS: Final = 'kube_deployment_spec_replicas{deployment="events-headgate-ingest"}'
_WANTED_OF_OTHERS: Final = 'kube_deployment_spec_replicas{namespace="other",deployment="headgate-gateway"}'
_IN: Final = "{{ with $labels.namespace }} in {{ . }}{{ end }}"
_DEV: Final = up("dev", "1x40") | {'headgate_ready{job="headgate",role="dev",instance="dev-0"}': "1x40"}
_PART: Final = " or ".join(f'label_replace({healthy(role)}, "role", "{role}", "", "")' for role in REPLICAS)
_ALL_UP: Final = up("ingest", "1x60") | up("dispatcher", "1x60", "1x60") | up("gateway", "1x60", "1x60")

ROLES: Final = (
    Alert(
        name="HeadgateDispatchersDown",
        expr=f"({healthy('dispatcher')}) < 0.2",
        hold="1m",
        severity="page",
        summary=f"More than 80 % of the dispatchers{_IN} do not answer, or are not ready",
        fires=up("dispatcher", "1x40", "0x40") | {f"headgate_ready{{{DISPATCHER}}}": "0x40"},
        quiet=up("dispatcher", "1x40", "0x40") | {f"headgate_ready{{{DISPATCHER}}}": "1x40"},
        also_fires=(
            up("dispatcher", "1x25 stale _x14") | up("gateway", "1x40"),
            up("dispatcher", "1x5 stale _x34") | up("gateway", "1x40") | up("dev", "0x40"),
        ),
        also_quiet=(_DEV,),
    ),
    Alert(
        name="HeadgateGatewaysLost",
        expr=f"({healthy('gateway')}) < 0.3",
        hold="1m",
        severity="page",
        summary=f"Below 30 % of the gateways{_IN} answer and are ready",
        fires=up("gateway", "1x40", "1x25 stale _x14", "1x25 stale _x14", "0x40"),
        quiet=up("gateway", "1x40", "0x40", "0x40"),
        also_fires=(
            up("gateway", "1x40") | {f"headgate_ready{{{GATEWAY}}}": "0x40"},
            up("gateway", "1x5 stale _x34") | up("dispatcher", "1x40"),
            up("gateway", "1x40", *["1x5 stale _x34"] * 3) | {_WANTED: "4x40"},
            up("gateway", *["1x40"] * 9, namespace="other")
            | up("gateway", *["1x5 stale _x34"] * 3, namespace="live")
            | {_WANTED: "3x40", _WANTED_OF_OTHERS: "9x40"},
            up("gateway", *["1x40"] * 9, namespace="other") | up("gateway", *["0x40"] * 3, namespace="live"),
            up("gateway", "1x40", "1x40", namespace="live") | {_WANTED: "2x10 10x30"},
        ),
        also_quiet=(
            _DEV,
            up("gateway", "1x40", *["1x5 stale _x34"] * 3) | {_WANTED: "4x8 1x32"},
            up("gateway", *["1x40"] * 4, namespace="live") | {_WANTED: "4x40", _WANTED_OF_OTHERS: "10x40"},
            up("gateway", "1x40", "1x40", namespace="live") | _WANTED_TWICE,
            up("gateway", "1x40", "1x40", *["_x31 1x9"] * 8, namespace="live") | {_WANTED: "2x27 10x13"},
        ),
    ),
    Alert(
        name="HeadgateGatewaysHalfDown",
        expr=f"({healthy('gateway')}) < 0.5",
        hold="1m",
        severity="urgent",
        summary=f"More than half of the gateways{_IN} do not answer, or are not ready",
        fires=up("gateway", "1x40", "0x40", "0x40"),
        quiet=up("gateway", "1x40", "0x40"),
    ),
    Alert(
        name="HeadgateIngestsLost",
        expr=f"({healthy('ingest')}) < 0.3",
        hold="1m",
        severity="page",
        summary=f"Below 30 % of the ingests{_IN} answer and are ready",
        fires=up("ingest", "1x40", "1x25 stale _x14", "1x25 stale _x14", "0x40"),
        quiet=up("ingest", "1x40", "0x40", "0x40"),
        also_fires=(
            up("ingest", "1x40") | {f"headgate_ready{{{INGEST}}}": "0x40"},
            up("gateway", "1x40") | up("dispatcher", "1x40"),
            up("ingest", "1x40", *["1x5 stale _x34"] * 3) | {_WANTED_INGESTS: "4x40"},
        ),
        also_quiet=(_DEV, up("ingest", "1x40", *["1x5 stale _x34"] * 3) | {_WANTED_INGESTS: "4x8 1x32"}),
    ),
    Alert(
        name="HeadgateReplicasMissing",
        expr=f"({_PART}) < 1",
        hold="15m",
        severity="warn",
        summary=f"{{{{ $value | humanizePercentage }}}} of the replicas of {{{{ $labels.role }}}}{_IN} are ready",
        fires=_ALL_UP | up("dispatcher", "1x60", "1x20 0x40"),
        quiet=_ALL_UP | up("dispatcher", "1x60", "1x36 0x24"),
        at="50m",
        also_fires=(
            up("ingest", "1x60") | up("dispatcher", "1x60") | up("gateway", "1x60") | {_WANTED: "2x60"},
            _ALL_UP | {f"headgate_ready{{{INGEST}}}": "1x20 0x40"},
        ),
        also_quiet=(_DEV, _ALL_UP | up("gateway", "1x60", "1x20 stale _x39") | {_WANTED: "2x20 1x40"}),
    ),
    Alert(
        name="HeadgateShardsAway",
        expr="max(headgate_shards_without_owner) > 0",
        hold="2m",
        severity="page",
        summary="{{ $value }} shards have no owner that a gateway or an ingest reaches: it does not serve their topics",
        fires={f"headgate_shards_without_owner{{{GATEWAY}}}": "0x10 1x30"},
        quiet={f"headgate_shards_without_owner{{{GATEWAY}}}": "0x28 16x1 0x12"},
        also_fires=({f"headgate_shards_without_owner{{{INGEST}}}": "1x40"},),
    ),
    Alert(
        name="HeadgateCircuitsOpen",
        expr="max(headgate_circuits_open) > 0",
        hold="2m",
        severity="urgent",
        summary="Kafka takes nothing for {{ $value }} shards: their publishes are refused",
        fires={f"headgate_circuits_open{{{INGEST}}}": "0x10 1x30"},
        quiet={f"headgate_circuits_open{{{INGEST}}}": "0x28 1x1 0x12"},
    ),
)  # fmt: skip
