"""Asking all backends for offers at once, within a deadline: one that hangs or raises costs the others nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from llama4sdk._text import error_text
from llama4sdk._values import Value
from llama4sdk.backend import BackendInfo, Need, Offer, Unavailable
from llama4sdk.errors import Llama4Error, PluginError
from llama4sdk.hardware import Hardware
from llama4sdk.registry import Registry

REPORT_IT: Final = "Report it to its author."


class Fault(Unavailable):
    """The answer of a broken backend: it raised, was late, or broke the contract."""


class Answer(Value):
    """One backend's answer to one need."""

    info: BackendInfo
    need: Need
    result: Offer | Unavailable


class _Question(NamedTuple):
    """A backend, and the number of the need that it is asked about."""

    need_number: int
    backend: str


def remote_not_allowed(backend: str) -> Unavailable:
    """The answer for a remote backend that the policy does not allow."""
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

    ``deadline`` is in seconds for all of them together; a late backend is Unavailable. Without ``remote``, remote
    backends are not asked: some would look whether their server runs.
    """
    questions = [
        _Question(number, name)
        for number, need in enumerate(needs)
        for name in names
        if registry.info(name).knows(need.model)
    ]
    inbox: queue.SimpleQueue[tuple[_Question, Offer | Unavailable]] = queue.SimpleQueue()

    def ask(backend: str) -> None:
        for question in questions:
            if question.backend == backend:
                inbox.put((question, _offer(registry, backend, needs[question.need_number], hardware)))

    results: dict[_Question, Offer | Unavailable] = {}
    for name in dict.fromkeys(question.backend for question in questions):
        if registry.info(name).capabilities.remote and not remote:
            results |= {question: remote_not_allowed(name) for question in questions if question.backend == name}
        else:
            threading.Thread(target=ask, args=[name], name=f"llama4sdk-offer-{name}", daemon=True).start()
    until = time.monotonic() + deadline
    with suppress(queue.Empty):
        while len(results) < len(questions):
            question, result = inbox.get(timeout=max(0.0, until - time.monotonic()))
            results[question] = result
    late = Fault(
        reason=f"it did not answer within {deadline:g} s.",
        fix="Report it to its author, or set LLAMA4SDK_DISABLE_PLUGINS to the plugin's name.",
    )
    return tuple(
        Answer(
            info=registry.info(question.backend),
            need=needs[question.need_number],
            result=results.get(question, late),
        )
        for question in questions
    )


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
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's code; the cause is shown, not hidden
        return Fault(reason=f"its offer() raised {error_text(error)}", fix=REPORT_IT)
    if not isinstance(result, (Offer, Unavailable)):
        reason = f"its offer() returned {type(result).__name__!r}, neither Offer nor Unavailable."
        return Fault(reason=reason, fix=REPORT_IT)
    return result
