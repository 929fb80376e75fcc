"""Workers are started with options that are checked, and hold no secret."""

import pickle

import pytest

from lemon_async import ContractError, Timeouts
from lemon_async.distributed.options import WorkerOptions
from lemon_async.errors import JournalError

URL = "postgresql://lemon:pass-word@db/shop"


def test_options_leave_defaults_to_the_session_and_show_no_password():
    """What is `None` is not passed on; the URL of the journal may have a password."""
    options = WorkerOptions.of(URL, {"base_url": None, "timeouts": Timeouts()}, {"in_flight": 7}, {"model": "flux-pro"})
    assert options.session == {"timeouts": Timeouts()}
    assert options.batch == {"in_flight": 7, "model": "flux-pro"}
    assert "pass-word" not in repr(options)
    assert pickle.loads(pickle.dumps(options)) == options


def test_options_refuse_files_and_secrets():
    """A journal that is a file cannot be shared; a key would be kept in Ray's metadata, and is not quoted."""
    for journal in ("run.db", None, b"postgresql://db"):
        with pytest.raises(ContractError, match=r"several machines cannot share a file.*nothing was started"):
            WorkerOptions.of(journal, {}, {}, {})
    urls = {
        "postgresql://lemon:pass/word@db/shop": "are written as %XX",
        "sqlite:///run.db": "begin with postgresql://",
    }
    for journal, words in urls.items():
        with pytest.raises(JournalError, match=words):
            WorkerOptions.of(journal, {}, {}, {})
    for name, value in {"api_key": "sk-canary", "headers": {"x-gateway": "sk-canary"}}.items():
        with pytest.raises(ContractError, match=name) as caught:
            WorkerOptions.of(URL, {}, {}, {name: value})
        assert "sk-canary" not in str(caught.value)
