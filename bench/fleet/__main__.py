"""A whole installation in one process, in virtual time. `python -m bench.fleet --dispatchers 100 --gateways 1000`

Runs the production services of that many dispatchers and gateways and two ingests over one memory log: claims, links,
subscriptions, routes, announcements. Then it kills, adds and restarts some. Printed for each step: virtual time until
all is routed again, CPU of this process, messages and bytes between nodes, and what the busiest node had. Exit status
1 when a reader lacks a message or has one twice or out of order, a message went to a gateway twice, or the owner of
a user does not know where he is. Not simulated: sockets, pings, TLS, authentication of links, and the CPU of other
machines (what a node handles is measured apart). Memory: 4 GB with 100 dispatchers and 1,000 gateways.
"""

import argparse
import asyncio
import gc
import logging
import resource
import sys

import structlog

from bench.fleet.fleet import Fleet, Late, Size
from bench.fleet.steps import Plan, Run, Step
from tests.contract.virtual import VirtualLoop

SHOWN_KINDS = 8


def shown(step: Step) -> str:
    """Returns a row of the table."""
    busiest = ", ".join(f"{role} {most:,}" for role, most in step.most_received.items())
    cpu = ", ".join(f"{role} {most:.2f}" for role, most in step.most_cpu_s.items())
    return (
        f"| {step.name} | {step.virtual_s:.2f} | {step.cpu_s:.1f} | {step.messages:,} | {step.bytes / 1e6:,.1f} | "
        f"{busiest} | {cpu} | {step.delivered:,} |"
    )


def main() -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--dispatchers", type=int, default=10)
    parser.add_argument("--gateways", type=int, default=100)
    parser.add_argument("--shards", type=int, default=0, help="default: ten for each dispatcher")
    parser.add_argument("--topics", type=int, default=0, help="default: four for each gateway")
    parser.add_argument("--readers", type=int, default=0, help="default: 20 for each gateway, of two topics each")
    parser.add_argument("--kill", type=int, default=0, help="dispatchers; default: a tenth. As many are added")
    parser.add_argument("--restart", type=int, default=0, help="gateways; default: a tenth")
    parser.add_argument("--rate", type=float, default=200, help="publishes a second during the faults")
    given = parser.parse_args()
    size = Size(
        given.dispatchers,
        given.gateways,
        given.shards or 10 * given.dispatchers,
        given.topics or 4 * given.gateways,
        given.readers or 20 * given.gateways,
    )
    killed = given.kill or max(1, given.dispatchers // 10)
    return run(size, Plan(killed, killed, given.restart or max(1, given.gateways // 10), given.rate))


def run(size: Size, plan: Plan) -> int:
    """Runs and prints; returns the exit status."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.disable()  # a collection would be counted for the node that happens to run
    print("| step | virtual s | CPU s | messages | MB | received by the busiest | its CPU s for them | deliveries |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    loop = VirtualLoop()
    fleet = Fleet(size, loop)
    played = Run(fleet, plan, _ended)
    try:
        loop.run_until_complete(played.play())
    except Late as late:
        fleet.fault(f"late: {late}")
    else:
        _details(played)
    finally:
        end(loop)
    for fault in fleet.faults:
        print(f"FAULT: {fault}")
    sys.stdout.flush()
    return 1 if fleet.faults else 0


def _ended(step: Step) -> None:
    print(shown(step), flush=True)
    gc.collect()
    gc.freeze()


def end(loop: VirtualLoop) -> None:
    """Cancels what still runs and closes the loop."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def _details(played: Run) -> None:
    fleet = played.fleet
    print("\nMost frequent kinds of messages, by the role of the sender:\n\n| step | kinds |\n|---|---|")
    for step in played.steps:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in list(step.kinds.items())[:SHOWN_KINDS])
        print(f"| {step.name} | {kinds} |")
    links = played.steps[-1].links
    print(f"\nLinks of a node: {', '.join(f'{role} {count:,}' for role, count in links.items())}")
    print(
        f"Messages accepted: {sum(fleet.published.values()):,}; deliveries: {fleet.delivered:,}; {dict(fleet.events)}"
    )
    print(f"Memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    raise SystemExit(main())
