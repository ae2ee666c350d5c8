"""Asking every backend at once, with a deadline: one that hangs or raises costs nobody else anything."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from llama4sdk._text import error_text
from llama4sdk._values import Value
from llama4sdk.backend import BackendInfo, Need, Offer, Unavailable
from llama4sdk.errors import Llama4Error, PluginError
from llama4sdk.hardware import Hardware
from llama4sdk.registry import Registry

__all__ = ["Answer", "Fault", "collect", "remote_not_allowed"]


class Fault(Unavailable):
    """An answer its backend did not give: it raised, was late, or broke the contract. The backend is broken."""


class Answer(Value):
    """What one backend said to one need."""

    info: BackendInfo
    need: Need
    result: Offer | Unavailable


def remote_not_allowed(backend: str) -> Unavailable:
    """What is said for a backend elsewhere that the policy does not allow."""
    return Unavailable(
        reason="prompts would leave this machine, and the policy keeps them here.",
        fix=f"Pass backend='{backend}' or Policy(allow_remote=True).",
    )


def collect(
    registry: Registry,
    names: Sequence[str],
    needs: Sequence[Need],
    hardware: Hardware,
    *,
    deadline: float,
    remote: bool = True,
) -> tuple[Answer, ...]:
    """Every backend's answer to every need it could know, in the order of the needs, then of the names.

    ``deadline`` is in seconds for all of them together; whoever is late is Unavailable. Without ``remote``, backends
    elsewhere are not asked: some would look whether their server runs.
    """
    inbox: queue.SimpleQueue[tuple[int, int, Offer | Unavailable]] = queue.SimpleQueue()
    pairs = [
        (row, place)
        for row, need in enumerate(needs)
        for place, name in enumerate(names)
        if registry.info(name).knows(need.model)
    ]
    barred = {name for name in names if registry.info(name).capabilities.remote and not remote}
    asked = [(row, place) for row, place in pairs if names[place] not in barred]
    for place, name in enumerate(names):
        rows = {row: needs[row] for row, column in asked if column == place}
        if not rows:
            continue
        work = (registry, name, place, rows, hardware, inbox)
        threading.Thread(target=_ask, args=work, name=f"llama4sdk-offer-{name}", daemon=True).start()
    results = _receive(inbox, len(asked), time.monotonic() + deadline)
    late = Fault(
        reason=f"it did not answer within {deadline:g} s.",
        fix="Report it to its author, or set LLAMA4SDK_DISABLE_PLUGINS to the plugin's name.",
    )
    results |= {(row, place): remote_not_allowed(names[place]) for row, place in pairs if names[place] in barred}
    return tuple(
        Answer(info=registry.info(names[place]), need=needs[row], result=results.get((row, place), late))
        for row, place in pairs
    )


def _receive(
    inbox: queue.SimpleQueue[tuple[int, int, Offer | Unavailable]], count: int, until: float
) -> dict[tuple[int, int], Offer | Unavailable]:
    results: dict[tuple[int, int], Offer | Unavailable] = {}
    while len(results) < count:
        try:
            row, place, result = inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        results[row, place] = result
    return results


def _ask(
    registry: Registry,
    name: str,
    place: int,
    needs: Mapping[int, Need],
    hardware: Hardware,
    inbox: queue.SimpleQueue[tuple[int, int, Offer | Unavailable]],
) -> None:
    for row, need in needs.items():
        inbox.put((row, place, _offer(registry, name, need, hardware)))


def _offer(registry: Registry, name: str, need: Need, hardware: Hardware) -> Offer | Unavailable:
    info = registry.info(name)
    if missing := info.missing_modules():
        return Unavailable(reason=f"it needs {', '.join(missing)}, not installed.", fix=info.install)
    try:
        result: object = registry.backend(name).offer(need, hardware)
    except PluginError as error:
        return Fault(reason=error.message, fix=error.hint)
    except Llama4Error as error:
        return Unavailable(reason=error.message, fix=error.hint)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code; the cause is shown, not hidden
        return Fault(reason=f"its offer() raised {error_text(error)}", fix="Report it to its author.")
    if not isinstance(result, (Offer, Unavailable)):
        return Fault(
            reason=f"its offer() returned {type(result).__name__!r}, neither Offer nor Unavailable.",
            fix="Report it to its author.",
        )
    return result
