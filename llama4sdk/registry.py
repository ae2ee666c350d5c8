"""Finding plugins without trusting them: each is loaded guarded, and a failure is a value, not a crash."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import pluggy

from llama4sdk import hookspecs, settings
from llama4sdk._values import Value
from llama4sdk.backend import CONTRACT_VERSION, Backend, BackendInfo
from llama4sdk.errors import PluginContractError, PluginLoadError, UnknownBackendError
from llama4sdk.text import nearest

__all__ = ["PluginFailure", "Registered", "Registry"]


class Registered(Value):
    """A backend and where it comes from."""

    info: BackendInfo
    plugin: str
    distribution: str
    version: str


class PluginFailure(Value):
    """A plugin, or one of its backends, that cannot be used, and the cause."""

    plugin: str
    distribution: str
    version: str
    reason: str


class Registry:
    """The backends of this environment. Built once per client; nothing is remembered between two registries."""

    def __init__(self, backends: Iterable[Registered], failures: Iterable[PluginFailure] = ()) -> None:
        self.backends = tuple(backends)
        self.failures = tuple(failures)
        self._instances: dict[str, Backend] = {}

    @classmethod
    def discover(cls) -> Registry:
        """Load every allowed plugin of the entry point group ``llama4sdk``. Never raises because of one."""
        backends: dict[str, Registered] = {}
        failures: list[PluginFailure] = []
        for point in _allowed_entry_points():
            for found in _load(point):
                if isinstance(found, PluginFailure):
                    failures.append(found)
                elif (first := backends.setdefault(found.info.name, found)) is not found:
                    failures.append(_refuse(point, f"backend '{found.info.name}' is already provided by {_who(first)}"))
        return cls(backends.values(), failures)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all usable backends."""
        return tuple(entry.info.name for entry in self.backends)

    def info(self, name: str) -> BackendInfo:
        """A backend's card. Raises UnknownBackendError with the nearest name, or with why its plugin failed."""
        for entry in self.backends:
            if entry.info.name == name:
                return entry.info
        for failure in self.failures:
            if name in (failure.plugin, failure.distribution):
                raise UnknownBackendError(
                    f"The plugin '{name}' is installed but broken: {failure.reason}.",
                    hint="'llama4sdk doctor' shows every plugin's state.",
                )
        raise UnknownBackendError(
            f"There is no backend '{name}'.",
            hint=nearest(name, self.names, "Installed backends"),
        )

    def backend(self, name: str) -> Backend:
        """The backend itself; its class is imported here and nowhere earlier.

        Raises UnknownBackendError, PluginLoadError or PluginContractError.
        """
        if name not in self._instances:
            self._instances[name] = _instantiate(self.info(name))
        return self._instances[name]


def _allowed_entry_points() -> list[EntryPoint]:
    """In a fixed order: the core's own first, then by distribution and name."""
    allowed, denied = settings.enabled_plugins(), settings.disabled_plugins()
    points = entry_points(group=hookspecs.ENTRY_POINT_GROUP)
    unique = {(_distribution(point), point.name): point for point in points}
    ordered = sorted(unique.items(), key=lambda item: (item[0][0] != "llama4sdk", item[0]))
    return [p for _, p in ordered if p.name not in denied and (allowed is None or p.name in allowed)]


def _load(point: EntryPoint) -> Iterator[Registered | PluginFailure]:
    try:
        infos = list(_ask(point))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's code raises stays his
        yield _refuse(point, _cause(error))
        return
    for info in infos:
        if not isinstance(info, BackendInfo):
            yield _refuse(point, f"its hook returned {type(info).__name__!r} where a BackendInfo belongs")
        elif info.contract != CONTRACT_VERSION:
            yield _refuse(
                point,
                f"backend '{info.name}' was written for contract {info.contract}, this core speaks {CONTRACT_VERSION}; "
                f"install a version of {_distribution(point)} that fits",
            )
        else:
            yield Registered(info=info, plugin=point.name, distribution=_distribution(point), version=_version(point))


def _ask(point: EntryPoint) -> Iterator[object]:
    """Register one plugin with a manager of its own, so that pluggy's blame names this plugin alone."""
    plugin = point.load()
    manager = pluggy.PluginManager("llama4sdk")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=point.name)
    manager.check_pending()
    if not manager.hook.llama4sdk_backends.get_hookimpls():
        what = "module" if isinstance(plugin, ModuleType) else "object"
        raise PluginContractError(f"its {what} {point.value} implements no llama4sdk_backends hook")
    for result in manager.hook.llama4sdk_backends() or [None]:
        if not isinstance(result, (list, tuple)):
            raise PluginContractError(f"its hook returned {type(result).__name__!r}, not a list of BackendInfo")
        yield from result


def _instantiate(info: BackendInfo) -> Backend:
    module, _, name = info.cls.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
        backend = kind()
    except (Exception, SystemExit) as error:  # a stranger's code again
        raise PluginLoadError(
            f"Backend '{info.name}' cannot be imported: {_cause(error)}.", hint=info.install
        ) from error
    if not isinstance(backend, Backend):
        raise PluginContractError(f"Backend '{info.name}': {info.cls} is no subclass of llama4sdk.backend.Backend.")
    return backend


def _refuse(point: EntryPoint, reason: str) -> PluginFailure:
    return PluginFailure(plugin=point.name, distribution=_distribution(point), version=_version(point), reason=reason)


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _who(entry: Registered) -> str:
    return f"{entry.distribution} {entry.version}"


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else "unknown"
