"""The backend: the next word is drawn from the words that followed the last one in a famous speech."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice, pairwise

from llama4sdk.backend import Backend, Engine, Need, Offer, Unavailable
from llama4sdk.errors import StreamClosedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.stop_strings import cut
from llama4sdk.local.windows import room_for_answer
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import Request, SamplingParams

MODEL, CONTEXT, MEMORY = "gettysburg", 1024, 4 * 2**20


class ExampleBackend(Backend):
    """Offers its own small model to any machine with 4 MiB to spare."""

    name = "example"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer, or the reason why not. Nothing is read or opened here."""
        context = need.context_length or CONTEXT
        if need.model not in (None, MODEL):
            return Unavailable(reason=f"it has no model '{need.model}'.", fix=f"Choose '{MODEL}'.")
        if need.device not in (None, "cpu") or need.quantization is not None:
            return Unavailable(reason="it counts words on the CPU, and has no weights to quantize.")
        if context > CONTEXT:
            return Unavailable(reason=f"its context is {CONTEXT} words; {context} were asked for.")
        if hardware.free_memory < MEMORY:
            reason = f"it needs {MEMORY} bytes; {hardware.free_memory} are free."
            return Unavailable(reason=reason, need_memory=MEMORY, have_memory=hardware.free_memory)
        return Offer(
            model=MODEL,
            placement=Placement(kind="local", devices=("cpu",)),
            context_length=context,
            batch=need.batch,
            memory={"cpu": MEMORY},
            reason="its word counts fit into RAM",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> "ExampleEngine":
        """The engine; reading the speech is over before ``progress`` could be told of it."""
        return ExampleEngine(plan)


class ExampleEngine(Engine):
    """One word is one token."""

    def __init__(self, plan: Plan) -> None:
        self.model, self.context_length = plan.model, plan.context_length
        words = files(__package__).joinpath("speech.txt").read_text(encoding="utf-8").split()
        self._followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for word, follower in pairwise(words):
            self._followers[word][follower] += 1
        self._anything = Counter(words)
        self._closed = False

    def stream(self, request: Request) -> Iterator[Event]:
        """Words up to the end of a sentence, a stop string or ``max_tokens``."""
        prompt = _words(request)
        room = room_for_answer(len(prompt), request.sampling.max_tokens, self.context_length)
        word, held, stopped, written = "", "", False, 0
        for word in islice(self._sentence(prompt[-1], request.sampling), room):
            if self._closed:
                raise StreamClosedError("The engine was closed while it was answering.")
            written += 1
            safe, held, stopped = cut(f"{held} {word}", request.sampling.stop)
            if safe:
                yield TextDelta(text=safe)
            if stopped:
                break
        if held:
            yield TextDelta(text=held)
        ended = stopped or word.endswith(".")
        yield Finish(reason="stop" if ended else "length", usage=Usage(input_tokens=len(prompt), output_tokens=written))

    def count_tokens(self, request: Request) -> int:
        """Words in the prompt, or in all messages."""
        return len(_words(request))

    def close(self) -> None:
        """Streams still open end at their next word."""
        self._closed = True

    def _sentence(self, word: str, sampling: SamplingParams) -> Iterator[str]:
        source = random.Random(sampling.seed)  # noqa: S311 - no secrets are drawn
        heat = 1.0 if sampling.temperature is None else sampling.temperature
        while True:
            choices = self._followers.get(word, self._anything)
            (word, most), *_ = choices.most_common(1)
            if heat > 0:
                weights = [(count / most) ** (1 / heat) for count in choices.values()]
                word = source.choices(list(choices), weights)[0]
            yield word
            if word.endswith("."):
                return


def _words(request: Request) -> list[str]:
    texts = [request.prompt or "", *(message.text for message in request.messages)]
    return " ".join(texts).split() or [""]
