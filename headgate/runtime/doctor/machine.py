"""Checks of this machine: descriptors, memory, the folder of index files, and the name that others reach it by."""

import os
import resource
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from headgate.runtime.findings import Finding, fail, ok, warn
from headgate.runtime.setting_types import is_loopback
from headgate.runtime.settings import Settings, advertised, resolves
from headgate.runtime.sockets import ANY, SPARE_DESCRIPTORS

MIB: Final = 1024 * 1024
DESCRIPTORS: Final = 10_000  # sockets of a gateway as it is sized
FULL_BYTES: Final = 100 * MIB
LOW_BYTES: Final = 1024 * MIB
_ALL_HOSTS: Final = {ANY, "0.0.0.0"}  # noqa: S104 - what a setting may say
_ADVERTISE: Final = "set dispatcher.advertise to the host:port at which gateways and ingests reach it"
_CGROUP_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_NO_LIMIT: Final = 1 << 60  # what version 1 of cgroups writes for none is about 2^63


def check_machine(settings: Settings, roles: Collection[str]) -> Iterator[Finding]:
    """Checks what some roles need of the machine."""
    for role in roles:
        yield from check_ports(settings, role)
    if "gateway" in roles or "ingest" in roles:
        yield check_descriptors(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if "ingest" in roles:
        yield check_memory(settings, memory_limit())
    if "dispatcher" in roles:
        yield check_folder(settings.dispatcher.data)
        yield check_address(settings)


def check_descriptors(settings: Settings, hard: int) -> Finding:
    """Checks the limit of open files against the connections that the process may hold."""
    name, given = "descriptors", settings.limits.connections
    if hard == resource.RLIM_INFINITY:
        return ok(name, "no limit on open files")
    room = max(hard - SPARE_DESCRIPTORS, 0)
    raise_it = "raise the hard limit on open files (ulimit -Hn, LimitNOFILE, or the container's nofile)"
    if given is not None and given > room:
        return fail(name, f"limits.connections is {given} and {hard} open files allow {room}", raise_it)
    if room < DESCRIPTORS:
        return warn(name, f"{hard} open files allow {room} connections", raise_it)
    return ok(name, f"{hard} open files")


def memory_limit() -> int | None:
    """Returns the memory that this process may use, as its cgroup says; None: no limit."""
    for path in _CGROUP_FILES:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < _NO_LIMIT:
            return int(text)
    return None


def check_memory(settings: Settings, limit: int | None) -> Finding:
    """Checks that requests which are being worked on cannot fill the memory."""
    name, held = "limits.held_bytes", settings.limits.held_bytes
    if limit is None:
        return ok(name, f"{held // MIB} MiB; this process has no memory limit")
    if held * 2 > limit:
        seen = f"{held // MIB} MiB of requests may be held and the process may use {limit // MIB} MiB"
        return fail(name, seen, "set it to less than half of the memory limit, or raise the limit")
    return ok(name, f"{held // MIB} of {limit // MIB} MiB")


def check_folder(folder: Path) -> Finding:
    """Checks that index files can be written."""
    name = "dispatcher.data"
    place = folder if folder.exists() else next((p for p in folder.absolute().parents if p.exists()), Path("/"))
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return fail(name, f"{folder} cannot be written by this user", "change its owner, or set dispatcher.data")
    free = shutil.disk_usage(place).free
    more = "give the disk more room; index.frame_bytes bounds what each shard keeps"
    if free < FULL_BYTES:
        return fail(name, f"{free // MIB} MiB are free at {place}", more)
    if free < LOW_BYTES:
        return warn(name, f"{free // MIB} MiB are free at {place}", more)
    return ok(name, f"{folder}, {free // MIB} MiB free")


def check_address(settings: Settings) -> Finding:
    """Checks the address that this dispatcher gives to gateways and ingests."""
    name, address = "dispatcher.advertise", advertised(settings, settings.dispatcher.port)
    host = address.rpartition(":")[0].strip("[]")
    if is_loopback(host) and not is_loopback(settings.dispatcher.host):
        seen = f"others are told {address}, which only this machine reaches"
        return warn(name, seen, _ADVERTISE)
    if not resolves(host):
        return warn(name, f"others are told {address}, and no name server knows that host here", _ADVERTISE)
    return ok(name, address)


def check_ports(settings: Settings, role: str) -> Iterator[Finding]:
    """Checks that a role does not listen twice on one port; there is nothing to say where it does not."""
    host, port = {
        "ingest": (settings.ingest.host, settings.ingest.port),
        "gateway": (settings.gateway.host, settings.gateway.port),
        "dispatcher": (settings.dispatcher.host, settings.dispatcher.port),
    }[role]
    hosts = {host, settings.admin.host or host}
    if port == settings.admin.port and (len(hosts) == 1 or hosts & _ALL_HOSTS):
        seen = f"{role}.port and admin.port are both {port}: the role cannot listen on both"
        yield fail(f"{role}.port", seen, f"change {role}.port or admin.port")
