"""The tables and the function that keep rate limits in PostgreSQL, in a schema of their own.

`accounts` has the state of each account. It is unlogged, because nothing is written faster: a crash of the server
empties it. `known` is an ordinary table and survives: an account that is known and has no state has lost it.

Times are seconds of the server's clock; `epoch` is in microseconds.
"""

__all__ = ["CHANNEL", "CREATE", "RESERVE", "VERSION"]

VERSION = 1
CHANNEL = "lemon_async_limit_"
"""Pauses of an account are notified on this channel, which the account completes."""

RESERVE = """
SELECT rpm, granted, wait_s, epoch, workers
FROM lemon_async_limit.reserve($1, $2, $3::int, $4::int, $5::float8, $6::float8, $7::float8, $8::int, $9::bigint)
"""
"""Arguments: account, worker, slots, owed, pause, interval, horizon, rpm and the epoch that is known, or null."""

# Any number of processes may execute this at the same time; all but the first find the work done.
CREATE = f"""
DO $create$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('lemon_async_limit'));
    IF to_regclass('lemon_async_limit.version') IS NOT NULL THEN
        RETURN;
    END IF;
    IF to_regnamespace('lemon_async_limit') IS NULL THEN
        CREATE SCHEMA lemon_async_limit;
    END IF;
    CREATE TABLE lemon_async_limit.version (version int NOT NULL);
    INSERT INTO lemon_async_limit.version VALUES ({VERSION});
    CREATE TABLE lemon_async_limit.known (account text PRIMARY KEY);
    CREATE UNLOGGED TABLE lemon_async_limit.accounts (
        account text PRIMARY KEY,
        rpm int NOT NULL,
        epoch bigint NOT NULL,
        due float8 NOT NULL,
        clear_until float8 NOT NULL,
        used_at float8 NOT NULL,
        workers int NOT NULL
    ) WITH (fillfactor = 50);
    CREATE UNLOGGED TABLE lemon_async_limit.workers (
        account text NOT NULL,
        worker text NOT NULL,
        seen_at float8 NOT NULL,
        PRIMARY KEY (account, worker)
    );

    CREATE FUNCTION lemon_async_limit.reserve(
        the_account text, the_worker text, slots int, owed int, pause_s float8, interval_s float8, horizon_s float8,
        the_rpm int, known_epoch bigint,
        OUT rpm int, OUT granted int, OUT wait_s float8, OUT epoch bigint, OUT workers int
    ) LANGUAGE plpgsql AS $reserve$
    DECLARE
        state lemon_async_limit.accounts;
        moment float8;
        first float8;
        was_clear float8;
        is_lost boolean := false;
    BEGIN
        SELECT * INTO state FROM lemon_async_limit.accounts AS a WHERE a.account = the_account FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO lemon_async_limit.accounts VALUES (the_account, the_rpm, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
            IF FOUND THEN
                INSERT INTO lemon_async_limit.known VALUES (the_account) ON CONFLICT DO NOTHING;
                is_lost := NOT FOUND;
            END IF;
            SELECT * INTO state FROM lemon_async_limit.accounts AS a WHERE a.account = the_account FOR UPDATE;
        END IF;
        moment := extract(epoch FROM clock_timestamp());

        IF moment > greatest(state.due, state.clear_until, state.used_at) + 120 THEN
            state.rpm := the_rpm;
            state.epoch := round(moment * 1e6);
            state.due := moment;
            state.clear_until := moment;
        ELSIF state.rpm <> the_rpm THEN
            rpm := state.rpm;
            RETURN;
        ELSIF greatest(state.due, state.clear_until) > moment + horizon_s + 120 + 10 * interval_s THEN
            state.epoch := round(moment * 1e6);
            state.due := moment;
            state.clear_until := moment;
            is_lost := true;
        END IF;
        was_clear := state.clear_until;
        IF is_lost OR known_epoch <> state.epoch THEN
            state.clear_until := greatest(state.clear_until, state.epoch / 1e6 + 60);
        END IF;
        state.clear_until := greatest(state.clear_until, moment + pause_s);

        first := greatest(moment, state.due, state.clear_until) + owed * interval_s;
        IF slots > 0 THEN
            IF first > moment + horizon_s THEN
                slots := 0;
            END IF;
            IF slots > 0 OR owed > 0 THEN
                state.due := first + slots * interval_s;
            END IF;
            -- Workers are counted anew whenever one has not been seen for ten seconds, not in every call.
            IF NOT EXISTS (
                SELECT FROM lemon_async_limit.workers AS w
                WHERE w.account = the_account AND w.worker = the_worker AND w.seen_at > moment - 10
            ) THEN
                INSERT INTO lemon_async_limit.workers VALUES (the_account, the_worker, moment)
                ON CONFLICT (account, worker) DO UPDATE SET seen_at = excluded.seen_at;
                DELETE FROM lemon_async_limit.workers AS w WHERE w.account = the_account AND w.seen_at <= moment - 60;
                SELECT count(*) INTO state.workers FROM lemon_async_limit.workers AS w WHERE w.account = the_account;
            END IF;
        END IF;

        UPDATE lemon_async_limit.accounts AS a
        SET rpm = state.rpm, epoch = state.epoch, due = state.due, clear_until = state.clear_until, used_at = moment,
            workers = state.workers
        WHERE a.account = the_account;
        IF state.clear_until > was_clear THEN
            PERFORM pg_notify('{CHANNEL}' || the_account, (state.clear_until - moment)::text);
        END IF;
        rpm := state.rpm;
        granted := slots;
        wait_s := first - moment;
        epoch := state.epoch;
        workers := state.workers;
    END
    $reserve$;
END
$create$
"""  # noqa: S608 - a number and a name of our own
