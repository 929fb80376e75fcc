"""Events are frozen data."""

import attrs
import pytest

from lemon_async import events


def test_every_event_is_frozen_and_has_a_time():
    """What a function received stays as it was."""
    kinds = [getattr(events, name) for name in events.__all__ if name != "EventHandler"]
    for kind in kinds:
        assert issubclass(kind, events.Event)
        assert attrs.fields(kind).at.kw_only
    limited = events.RateLimited(at=1.0, retry_after_s=2.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limited.at = 2.0
    assert limited == events.RateLimited(at=1.0, retry_after_s=2.0)
    assert repr(limited) == "RateLimited(at=1.0, retry_after_s=2.0)"
