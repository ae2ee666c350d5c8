"""Finding plugins without trusting them: each is loaded guarded, and a failure is a value, not a crash."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points, metadata
from types import ModuleType

import pluggy

from llama4sdk import hookspecs, settings
from llama4sdk._text import nearest
from llama4sdk._values import Value
from llama4sdk.backend import CONTRACT_VERSION, Backend, BackendInfo
from llama4sdk.errors import ConfigurationError, PluginContractError, PluginLoadError, UnknownBackendError
from llama4sdk.exporter import Exporter, ExporterInfo

__all__ = ["PluginFailure", "Registered", "RegisteredExporter", "Registry"]


class Registered(Value):
    """A backend and where it comes from."""

    info: BackendInfo
    plugin: str
    distribution: str
    version: str


class RegisteredExporter(Value):
    """An exporter and where it comes from."""

    info: ExporterInfo
    plugin: str
    distribution: str
    version: str


class PluginFailure(Value):
    """A plugin, or one of its backends or exporters, that cannot be used, and the cause."""

    plugin: str
    distribution: str
    version: str
    reason: str


class Registry:
    """The backends and exporters of this environment. Built once per client; nothing is remembered between two."""

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
        """Load every allowed plugin of the entry point group ``llama4sdk``. Never raises because of one."""
        backends: dict[str, Registered] = {}
        exporters: dict[str, RegisteredExporter] = {}
        failures: list[PluginFailure] = []
        for point in _allowed_entry_points():
            for found in _load(point):
                if isinstance(found, PluginFailure):
                    failures.append(found)
                    continue
                first: Registered | RegisteredExporter
                if isinstance(found, Registered):
                    kind, first = "backend", backends.setdefault(found.info.name, found)
                else:
                    kind, first = "exporter", exporters.setdefault(found.info.name, found)
                if first is not found:
                    failures.append(_refuse(point, f"{kind} '{found.info.name}' is already provided by {_who(first)}"))
        return cls(backends.values(), failures, exporters.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all usable backends."""
        return tuple(entry.info.name for entry in self.backends)

    def info(self, name: str) -> BackendInfo:
        """A backend's card. Raises UnknownBackendError with the nearest name, or with why its plugin failed."""
        for entry in self.backends:
            if entry.info.name == name:
                return entry.info
        self._refuse_broken(name, UnknownBackendError)
        raise UnknownBackendError(
            f"There is no backend '{name}'.",
            hint=nearest(name, self.names, "Installed backends"),
        )

    def backend(self, name: str) -> Backend:
        """The backend itself; its class is imported here and nowhere earlier.

        Raises UnknownBackendError, PluginLoadError or PluginContractError.
        """
        if name not in self._instances:
            info = self.info(name)
            made = _instantiate(f"Backend '{name}'", info.cls, info.install)
            if not isinstance(made, Backend):
                raise PluginContractError(f"Backend '{name}': {info.cls} is no subclass of llama4sdk.backend.Backend.")
            self._instances[name] = made
        return self._instances[name]

    def exporter(self, name: str) -> Exporter:
        """An exporter; its class is imported here and nowhere earlier.

        Raises ConfigurationError for a name that nobody brings, PluginLoadError where something that it needs is not
        installed or it cannot be imported, PluginContractError.
        """
        info = next((entry.info for entry in self.exporters if entry.info.name == name), None)
        if info is None:
            self._refuse_broken(name, ConfigurationError)
            known = nearest(name, (entry.info.name for entry in self.exporters), "Installed exporters")
            raise ConfigurationError(f"There is no exporter '{name}'.", hint=known + _extra(name))
        if lacking := info.missing_modules():
            raise PluginLoadError(
                f"Exporter '{name}' needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not "
                "installed.",
                hint=info.install,
            )
        made = _instantiate(f"Exporter '{name}'", info.cls, info.install)
        if not isinstance(made, Exporter):
            raise PluginContractError(f"Exporter '{name}': {info.cls} is no subclass of llama4sdk.exporter.Exporter.")
        return made

    def _refuse_broken(self, name: str, kind: type[ConfigurationError]) -> None:
        for failure in self.failures:
            if name in (failure.plugin, failure.distribution):
                raise kind(
                    f"The plugin '{name}' is installed but broken: {failure.reason}.",
                    hint="'llama4sdk doctor' shows every plugin's state.",
                )


def _allowed_entry_points() -> list[EntryPoint]:
    """In a fixed order: the core's own first, then by distribution and name."""
    allowed, denied = settings.enabled_plugins(), settings.disabled_plugins()
    points = entry_points(group=hookspecs.ENTRY_POINT_GROUP)
    unique = {(_distribution(point), point.name): point for point in points}
    ordered = sorted(unique.items(), key=lambda item: (item[0][0] != "llama4sdk", item[0]))
    return [p for _, p in ordered if p.name not in denied and (allowed is None or p.name in allowed)]


def _load(point: EntryPoint) -> Iterator[Registered | RegisteredExporter | PluginFailure]:
    try:
        found = list(_ask(point))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a stranger's code raises stays his
        yield _refuse(point, _cause(error))
        return
    for kind, card in found:
        if not isinstance(card, kind):
            yield _refuse(point, f"its hook returned {type(card).__name__!r} where {_a(kind)} belongs")
        elif card.contract != CONTRACT_VERSION:
            what = "backend" if isinstance(card, BackendInfo) else "exporter"
            yield _refuse(
                point,
                f"{what} '{card.name}' was written for contract {card.contract}, this core speaks {CONTRACT_VERSION}; "
                f"install a version of {_distribution(point)} that fits",
            )
        else:
            yield _entry(point, card)


def _entry(point: EntryPoint, card: BackendInfo | ExporterInfo) -> Registered | RegisteredExporter:
    who = {"plugin": point.name, "distribution": _distribution(point), "version": _version(point)}
    return Registered(info=card, **who) if isinstance(card, BackendInfo) else RegisteredExporter(info=card, **who)


def _ask(point: EntryPoint) -> Iterator[tuple[type[BackendInfo | ExporterInfo], object]]:
    """Register one plugin with a manager of its own, so that pluggy's blame names this plugin alone.

    Gives what its hooks returned, each with what it should be.
    """
    plugin = point.load()
    manager = pluggy.PluginManager("llama4sdk")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=point.name)
    manager.check_pending()
    hooks = (BackendInfo, manager.hook.llama4sdk_backends), (ExporterInfo, manager.hook.llama4sdk_exporters)
    kinds = [(kind, hook) for kind, hook in hooks if hook.get_hookimpls()]
    if not kinds:
        what = "module" if isinstance(plugin, ModuleType) else "object"
        raise PluginContractError(
            f"its {what} {point.value} implements no hook, neither llama4sdk_backends nor llama4sdk_exporters"
        )
    for kind, hook in kinds:
        for result in hook() or [None]:
            if not isinstance(result, (list, tuple)):
                raise PluginContractError(f"its hook returned {type(result).__name__!r}, not a list of {kind.__name__}")
            yield from ((kind, card) for card in result)


def _a(kind: type[object]) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _instantiate(what: str, place: str, install: str | None) -> object:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # a stranger's code again
        raise PluginLoadError(f"{what} cannot be imported: {_cause(error)}.", hint=install) from error


def _extra(name: str) -> str:
    """How to install what a part of this package's own is named for; nothing for other names."""
    extras = metadata("llama4sdk").get_all("Provides-Extra") or []
    return f" 'pip install llama4sdk[{name}]' may bring it." if name in extras else ""


def _refuse(point: EntryPoint, reason: str) -> PluginFailure:
    return PluginFailure(plugin=point.name, distribution=_distribution(point), version=_version(point), reason=reason)


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _who(entry: Registered | RegisteredExporter) -> str:
    return f"{entry.distribution} {entry.version}"


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else "unknown"
