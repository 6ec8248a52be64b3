"""Random bytes come from a pool that never gives the same twice, and never to two processes."""

import os

from headgate.runtime.system import POOL_BYTES, SystemRng


def test_no_byte_is_given_out_twice() -> None:
    rng, other = SystemRng(), SystemRng()
    given = [(rng if n % 2 else other).entropy(16) for n in range(3 * POOL_BYTES // 16)]
    assert len(set(given)) == len(given)
    assert [len(rng.entropy(count)) for count in (0, 1, 31, POOL_BYTES, POOL_BYTES + 1)] == [
        0, 1, 31, POOL_BYTES, POOL_BYTES + 1,
    ]  # fmt: skip


def test_a_forked_process_gives_out_others() -> None:
    rng = SystemRng()
    rng.entropy(16)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, rng.entropy(16))
        os._exit(0)
    mine = rng.entropy(16)
    os.waitpid(child, 0)
    theirs = os.read(out, 16)
    os.close(out)
    os.close(into)
    assert len(theirs) == 16 and theirs != mine
