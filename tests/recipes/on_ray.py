"""Buy the pictures of a catalogue on the machines of a Ray cluster: `python on_ray.py products.csv`.

On each machine, `ray start` runs with LEMONDATA_API_KEY in its environment, and with PGPASSWORD if the database wants
one; /mnt/shop is the same folder on all of them. Stop this program at any moment, and run it again to continue.
"""

import asyncio
import sys

import ray

from lemon_async.distributed import BatchSummary, run_batch
from lemon_async.errors import BatchPaused

JOURNAL = "postgresql://lemon@db.internal/shop"
LIMIT = "redis://limits.internal"
FOLDER = "/mnt/shop"
WORKERS = 8


async def buy(rows: str) -> BatchSummary:
    return await run_batch(
        rows,
        key="sku",
        model="flux-pro",
        journal=JOURNAL,
        save=f"{FOLDER}/{{category}}/{{key}}",
        workers=WORKERS,
        in_flight=100,
        actor_options={"num_cpus": 0.5},  # they mostly wait
        requests_per_minute=10_000,
        shared_limit=LIMIT,
        budget_usd=500,
        price_usd=0.05,
        progress=True,
    )


def main() -> None:
    ray.init(address="auto")
    try:
        print(asyncio.run(buy(sys.argv[1])))
    except BatchPaused as paused:
        sys.exit(f"{paused}. Run it again to continue.")


if __name__ == "__main__":
    main()
