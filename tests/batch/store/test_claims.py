from lemon_async.batch.records import JournalRow
from lemon_async.batch.states import State, Transition
from lemon_async.batch.store.claims import Claims, abandoned
from lemon_async.batch.store.ledger import RowFacts


def rows(*numbers):
    return [JournalRow(number=number, key=f"k{number}", state=State.NEW, request=b"{}") for number in numbers]


def test_each_row_has_one_holder():
    """Until it is released, or noted as free; a run gets its own rows once, too."""
    claims = Claims()
    assert [row.number for row in claims.take("a", rows(0, 1))] == [0, 1]
    assert [row.number for row in claims.take("b", rows(0, 1, 2))] == [2]
    assert not claims.take("a", rows(0, 1))
    assert (claims.held_elsewhere("a"), claims.held_elsewhere("b"), claims.held_elsewhere("c", [0, 9])) == (1, 2, 1)
    assert claims.runs() == 2
    claims.note(RowFacts(1, "k1", State.DONE))
    claims.note(RowFacts(2, "k2", State.SOLD, holder="c"))
    claims.release("a")
    assert [claims.holder(number) for number in range(3)] == [None, None, "c"]


def test_rows_whose_process_has_ended():
    """Requests on their way are doubtful, unsaved inline pictures are lost."""
    assert [(change.key, change.transition) for change in abandoned(["x"], ["y"])] == [
        ("x", Transition.DOUBT),
        ("y", Transition.LOSE),
    ]
