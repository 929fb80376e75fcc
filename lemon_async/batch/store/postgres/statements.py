"""The SQL of a journal in PostgreSQL. Pure.

Every transaction that changes rows, claims or sums locks the one row of `ledger` first: they follow each other, so that
a cap holds over all processes, no two of them deadlock, and what they read below the lock stays true until they commit.
"""

__all__ = [
    "ADD",
    "BEGIN",
    "BURY",
    "CLAIM",
    "CLAIMS",
    "CLAIM_KEYS",
    "CONTENT",
    "DEAD",
    "END_HOLDERS",
    "FIND",
    "FORGET",
    "FRESH",
    "GROUP",
    "HELD",
    "HELD_OF",
    "INSERT_PICTURES",
    "LAST_ROWS",
    "LAST_ROWS_BY_STATE",
    "LEFT_BY",
    "LOAD",
    "LOCK",
    "LOCK_DEAD",
    "OWNER_OF",
    "PICTURES",
    "PROGRAM",
    "READ_NOTE",
    "REGISTER",
    "RELEASE",
    "RETURN",
    "ROWS",
    "ROWS_BY_STATE",
    "RUNS",
    "SCHEMA",
    "SUMS",
    "TABLES",
    "UNCLAIM",
    "UPDATE",
    "VERSION",
    "WRITE_NOTE",
    "WRITE_SUMS",
]  # fmt: skip

PROGRAM = "lemon_async"
VERSION = 1
TABLES = frozenset({"ledger", "rows", "contents", "pictures", "notes", "owners", "claims"})
SCHEMA = """
CREATE TABLE ledger (
    program text NOT NULL, version integer NOT NULL, next_number bigint NOT NULL DEFAULT 0,
    totals jsonb NOT NULL DEFAULT '{}', sunk_nano_usd bigint NOT NULL DEFAULT 0,
    refunded_nano_usd bigint NOT NULL DEFAULT 0) WITH (fillfactor = 10);
CREATE TABLE rows (
    number bigint PRIMARY KEY, state text NOT NULL DEFAULT 'new', attempt integer NOT NULL DEFAULT 0,
    changed_at double precision NOT NULL,
    task text, fingerprint text, price_nano_usd bigint, cost_nano_usd bigint,
    sunk_nano_usd bigint NOT NULL DEFAULT 0, refunded_nano_usd bigint NOT NULL DEFAULT 0, error text);
CREATE INDEX rows_by_state ON rows (state, number);
CREATE TABLE contents (
    number bigint PRIMARY KEY, identity uuid NOT NULL UNIQUE, key text NOT NULL, digest bytea NOT NULL,
    request text NOT NULL, columns text NOT NULL);
CREATE TABLE pictures (
    number bigint, position integer, path text NOT NULL, size_bytes bigint NOT NULL, sha256 text NOT NULL,
    PRIMARY KEY (number, position));
CREATE INDEX pictures_by_path ON pictures USING hash (path);
CREATE TABLE notes (name text PRIMARY KEY, text text NOT NULL);
CREATE TABLE owners (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, host text NOT NULL, pid integer NOT NULL,
    locked_at timestamptz NOT NULL DEFAULT clock_timestamp(), last_group bigint NOT NULL DEFAULT 0,
    buried_at timestamptz) WITH (fillfactor = 50);
CREATE TABLE claims (number bigint PRIMARY KEY, owner integer NOT NULL, run text NOT NULL);
"""
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"  # each statement sees what was committed before it, also after a lock
LOCK = (
    "SELECT next_number, extract(epoch FROM clock_timestamp())::float8, totals::text, sunk_nano_usd, refunded_nano_usd "
    "FROM ledger FOR UPDATE"
)
SUMS = "SELECT totals::text, sunk_nano_usd, refunded_nano_usd FROM ledger"
WRITE_SUMS = "UPDATE ledger SET next_number = %s, totals = %s, sunk_nano_usd = %s, refunded_nano_usd = %s"
_FACTS = (
    "number, key, state, attempt, changed_at, task, fingerprint, price_nano_usd, cost_nano_usd, sunk_nano_usd, "
    "refunded_nano_usd, error"
)
_WHOLE = f"{_FACTS}, request, columns"
_OF_FOUND = f"SELECT {_WHOLE} FROM found JOIN rows USING (number) JOIN contents USING (number)"  # noqa: S608 - constants
_BY_STATE = """
    SELECT f.number FROM unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT number FROM rows AS r WHERE r.state = s.state AND number > %(after)s{free}
        ORDER BY number LIMIT %(limit)s
    ) AS f ORDER BY number LIMIT %(limit)s"""
_FREE = " AND NOT EXISTS (SELECT FROM claims AS c WHERE c.number = r.number)"
_IN_ORDER = "SELECT number FROM rows WHERE number > %(after)s ORDER BY number LIMIT %(limit)s"
ROWS = f"WITH found AS ({_IN_ORDER}) {_OF_FOUND} ORDER BY number"
ROWS_BY_STATE = f"WITH found AS ({_BY_STATE.format(free='')}) {_OF_FOUND} ORDER BY number"
_LAST = "SELECT number FROM rows AS r WHERE {0}number < %(before)s ORDER BY number DESC LIMIT %(limit)s"
_LAST_BY_STATE = f"""
    SELECT f.number FROM unnest(%(states)s::text[]) AS s (state)
        CROSS JOIN LATERAL ({_LAST.format("r.state = s.state AND ")}) AS f
    ORDER BY number DESC LIMIT %(limit)s"""  # noqa: S608 - constants
LAST_ROWS = f"WITH found AS ({_LAST.format('')}) {_OF_FOUND} ORDER BY number DESC"
LAST_ROWS_BY_STATE = f"WITH found AS ({_LAST_BY_STATE}) {_OF_FOUND} ORDER BY number DESC"
FIND = f"SELECT {_WHOLE} FROM contents JOIN rows USING (number) WHERE identity = %s"  # noqa: S608 - constants
LOAD = (
    f"SELECT {_FACTS}, run FROM contents JOIN rows USING (number) LEFT JOIN claims USING (number) "  # noqa: S608 - constants
    "WHERE identity = ANY(%s::uuid[])"
)
UPDATE = """
UPDATE rows SET state = c.state, attempt = c.attempt, changed_at = c.changed_at, task = c.task,
    fingerprint = c.fingerprint, price_nano_usd = c.price, cost_nano_usd = c.cost, sunk_nano_usd = c.sunk,
    refunded_nano_usd = c.refunded, error = c.error
FROM json_to_recordset(%s) AS c (
    number bigint, state text, attempt integer, changed_at double precision, task text, fingerprint text,
    price bigint, cost bigint, sunk bigint, refunded bigint, error text)
WHERE rows.number = c.number"""
INSERT_PICTURES = """
INSERT INTO pictures SELECT * FROM json_to_recordset(%s) AS p (
    number bigint, position integer, path text, size_bytes bigint, sha256 text)"""
PICTURES = (
    "SELECT number, path, size_bytes, sha256 FROM pictures WHERE number = ANY(%s::bigint[]) ORDER BY number, position"
)
OWNER_OF = "SELECT key FROM pictures JOIN contents USING (number) WHERE path = %s"
FRESH = """
SELECT (position - 1)::integer, number IS NULL
FROM unnest(%s::uuid[], %s::text[]) WITH ORDINALITY AS given (identity, digest, position)
    LEFT JOIN contents USING (identity)
WHERE number IS NULL OR contents.digest <> decode(given.digest, 'hex') ORDER BY position"""
ADD = """
WITH given AS MATERIALIZED (SELECT * FROM json_to_recordset(%(rows)s) AS r (
    number bigint, identity uuid, key text, digest text, request text, columns text)),
added AS (
    INSERT INTO rows (number, changed_at) SELECT number, %(now)s FROM given)
INSERT INTO contents SELECT number, identity, key, decode(digest, 'hex'), request, columns FROM given"""
CONTENT = "SELECT request, columns FROM contents WHERE identity = %s"
READ_NOTE = "SELECT text FROM notes WHERE name = %s"
WRITE_NOTE = "INSERT INTO notes VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET text = excluded.text"

# A claim without a run marks a row that only its owner can know about: it must be found when the owner dies.
_TAKE = "INSERT INTO claims SELECT number, %(owner)s, %(run)s FROM {} ON CONFLICT DO NOTHING RETURNING number"
CLAIM = f"WITH free AS ({_BY_STATE.format(free=_FREE)}), found AS ({_TAKE.format('free')}) {_OF_FOUND} ORDER BY number"
_GIVEN = """
    SELECT number, position FROM unnest(%(identities)s::uuid[]) WITH ORDINALITY AS g (identity, position)
        JOIN contents USING (identity) JOIN rows USING (number) WHERE state = ANY(%(states)s::text[])"""
CLAIM_KEYS = (
    f"WITH given AS ({_GIVEN}), found AS ({_TAKE.format('given')}) {_OF_FOUND} JOIN given USING (number) "
    "ORDER BY position"
)
CLAIMS = """
INSERT INTO claims SELECT number, %s, run FROM json_to_recordset(%s) AS c (number bigint, run text)
ON CONFLICT (number) DO UPDATE SET owner = excluded.owner, run = excluded.run"""
UNCLAIM = "DELETE FROM claims WHERE number = ANY(%s::bigint[])"
RELEASE = """
WITH mine AS (SELECT number, state = 'intent' OR state = 'sold' AND task IS NULL AS is_noted
    FROM claims JOIN rows USING (number) WHERE run = %(run)s),
noted AS (UPDATE claims SET run = '' FROM mine WHERE claims.number = mine.number AND is_noted)
DELETE FROM claims USING mine WHERE claims.number = mine.number AND NOT is_noted"""
HELD = "SELECT count(*) FROM claims WHERE run NOT IN ('', %s)"
RUNS = "SELECT count(DISTINCT run) FROM claims WHERE run <> ''"
HELD_OF = """
SELECT count(*) FROM claims JOIN contents USING (number) WHERE run NOT IN ('', %s) AND identity = ANY(%s::uuid[])"""

REGISTER = "INSERT INTO owners (host, pid) VALUES (%s, %s) RETURNING id"
GROUP = "UPDATE owners SET last_group = %s WHERE id = %s"
RETURN = "UPDATE owners SET locked_at = clock_timestamp() WHERE id = %s RETURNING last_group, buried_at IS NOT NULL"
FORGET = "DELETE FROM owners WHERE id = %s OR buried_at < clock_timestamp() - interval '30 days'"
# After a restart of the server, owners get some time to come back.
DEAD = """
SELECT array_agg(id) FILTER (WHERE is_dead), count(*) FROM (
    SELECT id, id <> %(me)s
        AND (locked_at > pg_postmaster_start_time()
            OR clock_timestamp() > pg_postmaster_start_time() + %(grace)s * interval '1 s')
        AND NOT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = %(tag)s::bigint::oid
                AND objid = o.id::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) AS is_dead
    FROM owners AS o WHERE buried_at IS NULL) AS living"""
LOCK_DEAD = """
WITH known AS MATERIALIZED (SELECT id FROM owners WHERE id = ANY(%(owners)s::int[]) AND buried_at IS NULL)
SELECT id FROM known WHERE pg_try_advisory_xact_lock(%(tag)s::int, id)"""
LEFT_BY = (
    f"SELECT {_FACTS} FROM claims JOIN rows USING (number) JOIN contents USING (number) "  # noqa: S608 - constants
    "WHERE owner = ANY(%s::int[]) AND (state = 'intent' OR state = 'sold' AND task IS NULL) LIMIT %s"
)
# A process that was stopped just before its COMMIT: its session is not idle, as far as the server knows.
END_HOLDERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'ledger'::regclass AND datname = current_database() AND granted AND pid <> pg_backend_pid()
    AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - interval '5 s'"""
BURY = """
WITH freed AS (DELETE FROM claims WHERE owner = ANY(%(owners)s::int[]))
UPDATE owners SET buried_at = clock_timestamp() WHERE id = ANY(%(owners)s::int[])"""
