from lemon_async.batch.store.postgres import statements as sql


def test_every_table_is_created():
    """The names are those by which a journal is recognised."""
    assert {line.split()[2] for line in sql.SCHEMA.splitlines() if line.startswith("CREATE TABLE")} == sql.TABLES


def test_plans_use_indexes(open_store, postgres):
    """Also before the server has analysed the tables."""
    store = open_store()
    connection = store._link._connection
    values = {"states": "{new}", "after": -1, "limit": 10, "owner": 1, "run": "", "identities": "{}"}
    for statement, parameters in (
        (sql.CLAIM, values),
        (sql.CLAIM_KEYS, values),
        (sql.ROWS_BY_STATE, values),
        (sql.LOAD, ("{}",)),
        (sql.FRESH, ("{}", "{}")),
        (sql.UPDATE, ("[]",)),
    ):
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}", parameters))
        assert "Index" in plan
        assert "Seq Scan" not in plan
