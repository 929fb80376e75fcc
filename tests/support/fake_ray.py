"""Ray in one process: actors are objects of this event loop, which a test can let die."""

import asyncio
from types import ModuleType, SimpleNamespace

__all__ = ["FakeRay"]


class RayActorError(Exception):
    pass


class FakeRay(ModuleType):
    """As much of the module `ray` as a fleet uses.

    Attributes:
        actors: Those that were started and not killed.
        options: Those of the last actor.
        deaths: How often each call of `run` ends with the death of its process, before it begins.
        calls: What the program called, in order.
        stand_in: The class of the actors, instead of the program's; for tests of what starts them.
    """

    def __init__(self, *, is_initialized=True, stand_in=None):
        super().__init__("ray")
        self.stand_in = stand_in
        self.actors, self.options, self.calls, self.deaths = [], None, [], 0
        self.exceptions = SimpleNamespace(RayActorError=RayActorError)
        self._is_initialized = is_initialized

    def is_initialized(self):
        return self._is_initialized

    def init(self):
        self.calls.append("init")
        self._is_initialized = True

    def shutdown(self):
        self.calls.append("shutdown")
        self._is_initialized = False

    def remote(self, cls):
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._starter(cls, options)))

    def _starter(self, cls, options):
        def start(*arguments):
            self.options = options
            actor = _Actor(self, lambda: (self.stand_in or cls)(*arguments))
            self.actors.append(actor)
            return actor

        return start

    def kill(self, actor):
        self.calls.append("kill")
        actor.die()
        self.actors.remove(actor)


class _Actor:
    def __init__(self, ray, make):
        self._ray, self._make, self._running = ray, make, []
        self.instance = make()

    def die(self):
        """End the process, as a kill does; it is started again."""
        running, self._running = self._running, []
        self.instance = self._make()
        for task, reply in running:
            task.cancel()
            if not reply.done():
                reply.set_exception(RayActorError("the actor died"))

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda: self._call(name))

    def _call(self, name):
        loop = asyncio.get_running_loop()
        reply = loop.create_future()
        task = loop.create_task(self._work(name, reply))
        self._running.append((task, reply))
        return SimpleNamespace(future=lambda: reply)

    async def _work(self, name, reply):
        if name == "run" and self._ray.deaths:
            self._ray.deaths -= 1
            self.die()
            return
        result = await getattr(self.instance, name)()
        if not reply.done():
            reply.set_result(result)
