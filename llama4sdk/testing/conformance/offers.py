"""Offers that hold, and refusals that explain themselves."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from llama4sdk import settings
from llama4sdk.backend import BackendInfo, Offer, Unavailable
from llama4sdk.endpoint import LOOPBACK
from llama4sdk.hardware import Hardware
from llama4sdk.quantization import Quantization, QuantizationConfig
from llama4sdk.registry import Registered
from llama4sdk.testing.child import Question, offer_report
from llama4sdk.testing.conformance.ground import Ground, assert_sentence, assert_that
from llama4sdk.testing.machines import LAPTOP, MACHINES

NOBODYS_MODEL: Final = "no-such-org/no-such-model-7f3a"
MIXED: Final = QuantizationConfig(attention=Quantization.INT8, experts=Quantization.INT4)
ABSURD_CONTEXT: Final = 2**40

on_every_machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())


class Offers(Ground):
    """``Backend.offer`` is a pure function of the need and the hardware."""

    @on_every_machine
    def test_offers_or_says_why_not(self, machine: Hardware) -> None:
        """On any machine the answer is a well-formed Offer, or an Unavailable with a sentence."""
        answer = self.backend().offer(self.need, machine)
        if isinstance(answer, Offer):
            assert_sentence(answer.reason, "Offer.reason")
            assert_devices_exist(answer, machine)
        else:
            assert_refusal(answer)

    @on_every_machine
    def test_same_question_same_answer(self, machine: Hardware) -> None:
        """Asked twice, by one instance or two, the answer is equal."""
        one, other = self.backend(), self.backend()
        answers = [asked.offer(self.need, machine) for asked in (one, one, other)]
        assert_that(
            answers[0] == answers[1] == answers[2],
            f"The same need on the same hardware was answered differently: {answers}.",
            fix="let offer() depend on its arguments alone: no counters, clocks, random numbers or probing.",
        )

    @on_every_machine
    def test_promises_no_more_memory_than_is_free(self, machine: Hardware) -> None:
        """Where memory is short the answer is ``Unavailable``, not an offer."""
        answer = self.backend().offer(self.need, machine)
        if isinstance(answer, Offer) and answer.placement.kind != "remote":
            for device, needed in answer.memory.items():
                assert_that(
                    needed <= machine.free(device),
                    f"The offer needs {needed} bytes on {device}, where {machine.free(device)} are free.",
                    fix="return Unavailable(reason=…, need_memory=…, have_memory=…) when the model does not fit.",
                )

    def test_an_unknown_model_is_refused(self) -> None:
        """For a model that nobody has, the answer is Unavailable; an endpoint's own names only the endpoint knows."""
        answer = self.backend().offer(self.need.model_copy(update={"model": NOBODYS_MODEL}), self.hardware)
        if isinstance(answer, Offer) and answer.placement.kind == "remote":
            pytest.skip("it is not asked before it is used, and answers itself for a model that it does not have")
        assert_refusal(answer)

    def test_a_missing_device_is_refused(self) -> None:
        """A device the machine does not have is never silently replaced by another."""
        assert_refusal(self.backend().offer(self.need.model_copy(update={"device": "cuda:7"}), LAPTOP))

    def test_a_chosen_device_is_kept(self) -> None:
        """The device that was asked for is the one in the offer."""
        answer = self.backend().offer(self.need.model_copy(update={"device": "cpu"}), self.hardware)
        if not isinstance(answer, Offer):
            return assert_refusal(answer)
        return assert_that(
            answer.placement.devices == ("cpu",),
            f"The need asks for device 'cpu'; the offer places the model on {answer.placement.devices}.",
            fix="honour Need.device, or return Unavailable.",
        )

    @pytest.mark.parametrize("quantization", [*Quantization, MIXED], ids=str)
    def test_a_chosen_quantization_is_kept(self, quantization: Quantization | QuantizationConfig) -> None:
        """The quantization that was asked for is the one in the offer."""
        answer = self.backend().offer(self.need.model_copy(update={"quantization": quantization}), self.hardware)
        if not isinstance(answer, Offer):
            return assert_refusal(answer)
        return assert_that(
            answer.quantization == quantization,
            f"The need asks for {quantization}; the offer has {answer.quantization}.",
            fix="honour Need.quantization, or return Unavailable.",
        )

    @pytest.mark.parametrize("context", [64, ABSURD_CONTEXT])
    def test_a_chosen_context_is_kept(self, context: int) -> None:
        """The offer has the context that was asked for, or more, or there is none."""
        answer = self.backend().offer(self.need.model_copy(update={"context_length": context}), self.hardware)
        if not isinstance(answer, Offer):
            return assert_refusal(answer)
        return assert_that(
            answer.context_length >= context,
            f"The need asks for {context} tokens of context; the offer has {answer.context_length}.",
            fix="honour Need.context_length, or return Unavailable.",
        )

    def test_offering_is_quick_and_touches_nothing(self, registered: Registered, info: BackendInfo) -> None:
        """In a process of its own, ``offer`` opens no device and no connection, and answers within the deadline.

        A remote backend may ask a server on this machine what it serves.
        """
        question = Question(need=self.need, hardware=self.hardware)
        try:
            report = offer_report(registered.plugin, info.name, question)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"offer() failed in a fresh interpreter:\n{error.stderr}") from error
        near = info.capabilities.remote
        reached = tuple(name for name in report.connections if not (near and any(host in name for host in LOOPBACK)))
        touched = reached + report.devices
        assert_that(not touched, f"offer() opened {', '.join(touched)}.", fix="leave devices and networks to load().")
        assert_that(
            report.seconds < settings.offer_deadline(),
            f"offer() took {report.seconds:.1f} s; all backends together have {settings.offer_deadline():g} s.",
            fix="look only at the arguments and at file headers; leave slow work to load().",
        )


def assert_refusal(answer: object) -> None:
    """Fail unless the answer is an Unavailable whose reason a person can use."""
    __tracebackhide__ = True
    assert_that(
        isinstance(answer, Unavailable),
        f"offer() answered {answer!r} where it cannot serve.",
        fix="return llama4sdk.backend.Unavailable(reason=…, fix=…).",
    )
    if isinstance(answer, Unavailable):
        assert_sentence(answer.reason, "Unavailable.reason")


def assert_devices_exist(offer: Offer, machine: Hardware) -> None:
    """Fail when a local offer names a device that the machine lacks."""
    __tracebackhide__ = True
    known = {"cpu", "disk", *(device.id for device in machine.devices)}
    named = {*offer.memory, *offer.placement.devices}
    assert_that(
        offer.placement.kind == "remote" or named <= known,
        f"The offer names {sorted(named - known)}; the machine has {sorted(known)}.",
        fix="use 'cpu' and the ids of hardware.devices.",
    )
