"""Discovery of plugins. Each is loaded guarded: a failure is a value that the doctor shows, not a crash."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points, metadata
from types import ModuleType

import pluggy

from llama4sdk import hookspecs, settings
from llama4sdk._text import error_text, nearest
from llama4sdk._values import Value
from llama4sdk.backend import CONTRACT_VERSION, Backend, BackendInfo
from llama4sdk.errors import ConfigurationError, PluginContractError, PluginLoadError, UnknownBackendError
from llama4sdk.exporter import Exporter, ExporterInfo

__all__ = ["PluginFailure", "Registered", "RegisteredExporter", "Registry"]


class _Plugin(Value):
    """A plugin and the distribution that brings it."""

    plugin: str
    distribution: str
    version: str


class Registered(_Plugin):
    """A backend and the plugin that brings it."""

    info: BackendInfo


class RegisteredExporter(_Plugin):
    """An exporter and the plugin that brings it."""

    info: ExporterInfo


class PluginFailure(_Plugin):
    """A plugin, or one of its backends or exporters, that cannot be used, with the reason."""

    reason: str


class Registry:
    """The installed backends and exporters. Each client builds its own; there is no global state."""

    def __init__(
        self,
        backends: Iterable[Registered],
        failures: Iterable[PluginFailure] = (),
        exporters: Iterable[RegisteredExporter] = (),
    ) -> None:
        self.backends = tuple(backends)
        self.failures = tuple(failures)
        self.exporters = tuple(exporters)
        self._instances: dict[str, Backend] = {}

    @classmethod
    def discover(cls) -> Registry:
        """Load every allowed plugin of the entry point group ``llama4sdk``; broken ones become ``PluginFailure``."""
        entries: dict[tuple[type, str], Registered | RegisteredExporter] = {}
        failures: list[PluginFailure] = []
        for point in _allowed_entry_points():
            for entry in _load(point):
                if isinstance(entry, PluginFailure):
                    failures.append(entry)
                elif (first := entries.setdefault((type(entry), entry.info.name), entry)) is not entry:
                    kind = "backend" if isinstance(entry, Registered) else "exporter"
                    provider = f"{first.distribution} {first.version}"
                    failures.append(_failure(point, f"{kind} '{entry.info.name}' is already provided by {provider}"))
        backends = [entry for entry in entries.values() if isinstance(entry, Registered)]
        exporters = [entry for entry in entries.values() if isinstance(entry, RegisteredExporter)]
        return cls(backends, failures, exporters)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all usable backends."""
        return tuple(entry.info.name for entry in self.backends)

    def info(self, name: str) -> BackendInfo:
        """The description of a backend.

        Raises UnknownBackendError with the nearest name, or with the reason why its plugin failed to load.
        """
        for entry in self.backends:
            if entry.info.name == name:
                return entry.info
        self._raise_if_broken(name, UnknownBackendError)
        hint = nearest(name, self.names, "Installed backends")
        raise UnknownBackendError(f"There is no backend '{name}'.", hint=hint)

    def backend(self, name: str) -> Backend:
        """The backend itself, whose class is imported on first use.

        Raises UnknownBackendError, PluginLoadError or PluginContractError.
        """
        if name not in self._instances:
            info = self.info(name)
            instance = _instantiate(f"Backend '{name}'", info.cls, info.install)
            if not isinstance(instance, Backend):
                raise PluginContractError(f"Backend '{name}': {info.cls} is no subclass of llama4sdk.backend.Backend.")
            self._instances[name] = instance
        return self._instances[name]

    def exporter(self, name: str) -> Exporter:
        """An exporter, whose class is imported on first use.

        Raises ConfigurationError for an unknown name, PluginLoadError where a module that it requires is missing or its
        own cannot be imported, PluginContractError where the class is no ``Exporter``.
        """
        info = next((entry.info for entry in self.exporters if entry.info.name == name), None)
        if info is None:
            self._raise_if_broken(name, ConfigurationError)
            known = nearest(name, (entry.info.name for entry in self.exporters), "Installed exporters")
            raise ConfigurationError(f"There is no exporter '{name}'.", hint=known + _extra_hint(name))
        if missing := info.missing_modules():
            raise PluginLoadError(
                f"Exporter '{name}' needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
                "installed.",
                hint=info.install,
            )
        instance = _instantiate(f"Exporter '{name}'", info.cls, info.install)
        if not isinstance(instance, Exporter):
            raise PluginContractError(f"Exporter '{name}': {info.cls} is no subclass of llama4sdk.exporter.Exporter.")
        return instance

    def _raise_if_broken(self, name: str, kind: type[ConfigurationError]) -> None:
        for failure in self.failures:
            if name in (failure.plugin, failure.distribution):
                raise kind(
                    f"The plugin '{name}' is installed but broken: {failure.reason}.",
                    hint="'llama4sdk doctor' shows every plugin's state.",
                )


def _allowed_entry_points() -> list[EntryPoint]:
    """Entry points of the enabled plugins: the core's own first, then by distribution and name."""
    allowed, denied = settings.enabled_plugins(), settings.disabled_plugins()
    points = entry_points(group=hookspecs.ENTRY_POINT_GROUP)
    unique = {(_distribution(point), point.name): point for point in points}
    ordered = sorted(unique.items(), key=lambda item: (item[0][0] != "llama4sdk", item[0]))
    return [p for _, p in ordered if p.name not in denied and (allowed is None or p.name in allowed)]


def _load(point: EntryPoint) -> Iterator[Registered | RegisteredExporter | PluginFailure]:
    try:
        infos = list(_call_hooks(point))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        yield _failure(point, error_text(error))
        return
    for kind, info in infos:
        if not isinstance(info, kind):
            expected = "a BackendInfo" if kind is BackendInfo else "an ExporterInfo"
            yield _failure(point, f"its hook returned {type(info).__name__!r} where {expected} belongs")
        elif info.contract != CONTRACT_VERSION:
            noun = "backend" if isinstance(info, BackendInfo) else "exporter"
            yield _failure(
                point,
                f"{noun} '{info.name}' was written for contract {info.contract}, this core speaks {CONTRACT_VERSION}; "
                f"install a version of {_distribution(point)} that fits",
            )
        elif isinstance(info, BackendInfo):
            yield Registered(info=info, **_origin(point))
        else:
            yield RegisteredExporter(info=info, **_origin(point))


def _call_hooks(point: EntryPoint) -> Iterator[tuple[type[BackendInfo | ExporterInfo], object]]:
    """The values that a plugin's hooks return, each with the type that it should have.

    Every plugin gets a manager of its own, so that pluggy's errors name this plugin alone.
    """
    plugin = point.load()
    manager = pluggy.PluginManager("llama4sdk")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=point.name)
    manager.check_pending()
    hooks = (BackendInfo, manager.hook.llama4sdk_backends), (ExporterInfo, manager.hook.llama4sdk_exporters)
    kinds = [(kind, hook) for kind, hook in hooks if hook.get_hookimpls()]
    if not kinds:
        noun = "module" if isinstance(plugin, ModuleType) else "object"
        raise PluginContractError(
            f"its {noun} {point.value} implements no hook, neither llama4sdk_backends nor llama4sdk_exporters"
        )
    for kind, hook in kinds:
        for result in hook() or [None]:
            if not isinstance(result, (list, tuple)):
                raise PluginContractError(f"its hook returned {type(result).__name__!r}, not a list of {kind.__name__}")
            yield from ((kind, info) for info in result)


def _instantiate(label: str, path: str, install: str | None) -> object:
    """An instance of the class at ``path``, written ``package.module:Class``. Raises PluginLoadError."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        raise PluginLoadError(f"{label} cannot be imported: {error_text(error)}.", hint=install) from error


def _extra_hint(name: str) -> str:
    """The command that installs the extra of this name; empty where there is none."""
    extras = metadata("llama4sdk").get_all("Provides-Extra") or []
    return f" 'pip install llama4sdk[{name}]' may bring it." if name in extras else ""


def _failure(point: EntryPoint, reason: str) -> PluginFailure:
    return PluginFailure(reason=reason, **_origin(point))


def _origin(point: EntryPoint) -> dict[str, str]:
    version = point.dist.version if point.dist else "unknown"
    return {"plugin": point.name, "distribution": _distribution(point), "version": version}


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"
