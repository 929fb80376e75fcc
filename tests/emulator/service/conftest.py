"""How to accept jobs without HTTP."""

import pytest

from lemon_async.emulator.service.job_spec import parse_job


@pytest.fixture
def accept():
    """How to have a store accept a job; actions script its task."""

    def accept(store, *script, now=0.0, key="k", prompt="a cat", model="flux-pro", **fields):
        spec = parse_job({"prompt": prompt, "model": model, **fields})
        return store.accept(spec, key=key, now=now, created=1, script=script)

    return accept
