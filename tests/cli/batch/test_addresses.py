"""Names of journals on the command line."""

import pytest

from lemon_async.cli.batch.addresses import file_problems, is_url, may_exist, title_of, without_password

URLS = [
    ("run.db", "run.db", "run"),
    ("postgresql://db.test/app", "postgresql://db.test/app", "app"),
    ("postgresql://me:hunter2@db.test:5433/app", "postgresql://me@db.test:5433/app", "app"),
    ("postgres://:hunter2@db.test/app", "postgres://db.test/app", "app"),
    (
        "postgresql://me@/app?host=/run/pg&password=hunter2&schema=shop&sslpassword=hunter2",
        "postgresql://me@/app?host=/run/pg&schema=shop",
        "app",
    ),
]


@pytest.mark.parametrize(("journal", "shown", "title"), URLS)
def test_a_journal_is_named_without_its_password(journal, shown, title):
    assert without_password(journal) == shown
    assert title_of(journal) == title
    assert is_url(journal) is may_exist(journal) is ("://" in journal)


def test_a_file_must_be_a_journal(tmp_path):
    """A database is asked when it is opened."""
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("x")
    for name, words in (("none", "there is no file"), ("empty", "is an empty file"), ("full", None)):
        problems = [problem.message for problem in file_problems(str(tmp_path / name))]
        assert (words in problems[0]) if words else not problems
    assert not [*file_problems("postgresql://db.test/app")]
