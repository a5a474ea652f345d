"""One process that resolves addresses as fast as it can: ``python -m bench.resolving CONFIG ACCOUNTS CONCURRENCY``.

Prints JSON: ``uncached`` and ``cached`` addresses a second, and what memory the process has in the end.
"""

import asyncio
import json
import resource
import sys
import time

from posthouse.app.process import new_event_loop
from posthouse.config.loader import load
from posthouse.directory.directory import Directory

SECONDS = 4.0
CACHED = 1_000
STEP = 700_001  # a prime: it has no factor in common with any number of accounts


async def measure(configuration: str, accounts: int, concurrency: int) -> dict[str, float]:
    directory = Directory(load(configuration))
    await directory.open()
    # Each account once, in an order without order, and no list of them: memory is measured, too.
    addresses = (f"user{number * STEP % accounts}@bench.test" for number in range(accounts))
    done = 0

    async def ask() -> None:
        nonlocal done
        deadline = time.perf_counter() + SECONDS
        for address in addresses:
            await directory.resolve(address)
            done += 1
            if time.perf_counter() > deadline:
                return

    begun = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(concurrency)))
    uncached = done / (time.perf_counter() - begun)
    few = [f"user{number * STEP % accounts}@bench.test" for number in range(CACHED)]
    for address in few:
        await directory.resolve(address)
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS / 2:
        for address in few:
            await directory.resolve(address)
        rounds += 1
    cached = rounds * len(few) / (time.perf_counter() - begun)
    await directory.close()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
    return {"uncached": uncached, "cached": cached, "megabytes": megabytes}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
