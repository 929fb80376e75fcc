import pickle

from journals import new_row
from lemon_async.batch.store.faults import conflict, not_text, refusal


def test_refusal_names_the_journal():
    """Its owner is known only if the journal is in use."""
    error = pickle.loads(pickle.dumps(refusal("run.db", "it is closed")))
    assert str(error) == "cannot use the journal 'run.db': it is closed"
    assert error.owner is None


def test_conflict_shows_three_fields_and_counts_the_others():
    """With short values, whatever the contents are."""
    row = new_row("a", one=1, two=[2], three="x" * 100, four=None)
    (problem,) = conflict([((b'{"four":4}', b"[1]"), row)]).problems
    text = str(problem)
    assert text.startswith("row 'a': is in the journal with other content (four was 4 and is absent; content was [1]")
    assert "3 more); give it another key" in text
    (problem,) = conflict([((b"not JSON", b""), row)]).problems
    assert "content was 'not JSON' and is absent" in str(problem)


def test_keys_without_utf8_are_listed():
    """At most twenty."""
    error = not_text(["\udcff"] * 30)
    assert len(error.problems) == 20
    assert str(error.problems[0]) == r"row '\udcff': its key has no UTF-8 form; give it a readable key"
