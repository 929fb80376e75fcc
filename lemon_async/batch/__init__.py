"""The durable batch: rows that are bought at most once, and survive `kill -9`.

    async with session.batch("run.db", "rows.csv", key="sku", save="out/{key}", budget_usd=50, price_usd=0.04) as batch:
        async for outcome in batch:
            print(outcome.key, outcome.status, outcome.paths)

Begin with `states.py`, which says what may happen to a row, and `journal.py`, what every store promises. `runner.py`
pushes rows through `LemonSession.map`; it uses the public API of the package and nothing else.
"""
