import pytest

from lemon_async.batch.states import State, Transition, after

MOVES = {
    "new": {"intend": "intent", "refuse": "refused", "accept": "sold"},
    "intent": {"withdraw": "new", "refuse": "refused", "doubt": "doubtful", "accept": "sold"},
    "doubtful": {"accept": "sold", "not sold": "new", "buy again": "new"},
    "sold": {"save": "done", "fail": "failed", "lose": "dead"},
    "failed": {"repeat": "new", "give up": "dead", "retry": "new"},
    "refused": {"accept": "sold", "retry": "new"},
    "dead": {"retry": "new"},
    "done": {},
}


@pytest.mark.parametrize("state", State)
def test_only_the_listed_moves_are_possible(state):
    """Every transition that is not listed for a state is impossible in it."""
    possible = {str(transition): str(then) for transition in Transition if (then := after(state, transition))}
    assert possible == MOVES[state]


def test_counts_by_state_print_as_their_values():
    """`print(batch.counts)` is for people; a state is equal to its value."""
    assert str({State.NEW: 1, State.DONE: 2}) == "{'new': 1, 'done': 2}"


def test_nothing_is_sent_again_without_a_decision_or_a_proof():
    """A row goes back to `new` only if nothing was sold, the sale was released, or the user says so."""
    back = {
        (str(state), str(transition))
        for state in State
        for transition in Transition
        if after(state, transition) is State.NEW
    }
    by_the_user = {"retry", "not sold", "buy again"}
    assert {pair for pair in back if pair[1] not in by_the_user} == {("intent", "withdraw"), ("failed", "repeat")}


def test_an_intent_begins_in_new_only():
    """The fence: two intents of a row cannot follow each other."""
    assert [state for state in State if after(state, Transition.INTEND)] == [State.NEW]


def test_open_states_are_those_that_a_run_goes_on_with():
    """The others wait for a person, or for nothing."""
    assert [state for state in State if state.is_open] == ["new", "intent", "sold", "failed"]
