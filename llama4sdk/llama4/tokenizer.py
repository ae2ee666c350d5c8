"""Text to token ids and back, with control tokens separate from text.

A control token (``<|eot|>``, ``<|im_start|>``) never comes from user text: plain text goes through an encoder without
them, and those of a chat template are recognized because all other strings in it are marked.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4 import vocabulary
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Control, Llama4Prompt, Piece
from llama4sdk.llama4.tokenizer_file import tokenizer_json
from llama4sdk.messages import Message
from llama4sdk.requests import Tool

CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL: Final = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_WORDS: Final = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{TAIL % ''}"
UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K_WORDS: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|{TAIL % '/'}"
)
#: Rules that split text into words before byte pairs are merged, by their names in GGUF's ``tokenizer.ggml.pre``.
SPLITTERS: Final = {
    "smollm": "digits",
    "gpt2": "gpt2",
    "gpt-2": "gpt2",
    "default": "gpt2",
    "llama3": LLAMA3_WORDS,
    "llama-v3": LLAMA3_WORDS,
    "llama-bpe": LLAMA3_WORDS,
    "llama4": O200K_WORDS,
    "gpt-4o": O200K_WORDS,
}


class Tokenizer:
    """A byte-level BPE tokenizer. ``control`` maps the control tokens to their ids; ``prefix`` begins every text."""

    def __init__(
        self, encoder: Encoder, control: Mapping[str, int], *, prefix: Sequence[int] = (), verbatim: Iterable[int] = ()
    ) -> None:
        """``encoder`` has no control tokens; ``verbatim`` ids are plain text."""
        self.control = dict(control)
        self.prefix = tuple(prefix)
        self._encoder = encoder
        self._verbatim = frozenset(verbatim)
        self.is_llama4 = vocabulary.is_llama4(control)
        self._controls = re.compile("|".join(re.escape(t) for t in sorted(control, key=len, reverse=True)) or r"(?!)")
        self._openings = re.compile("[" + re.escape("".join(sorted({token[0] for token in control} or {"<"}))) + "]")

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read a ``tokenizer.json``. Raises CheckpointError when it is damaged or not byte-level BPE."""
        try:
            data = _JSON_OBJECT.validate_json(text)
            added = _ADDED_TOKENS.validate_python(data.get("added_tokens") or [])
        except ValidationError as error:
            raise CheckpointError("tokenizer.json is no valid tokenizer file.") from error
        if '"ByteLevel"' not in json.dumps(data.get("decoder")):
            raise CheckpointError("tokenizer.json is not a byte-level tokenizer, as Llama 4's is.")
        control = {token.content: token.id for token in added if _is_control(token)}
        plain = [token for token in added if token.content not in control]
        with _as_checkpoint_error("tokenizer.json is no valid tokenizer file"):
            model = _plain_model(data["model"], control, {token.content: token.id for token in plain})
            data |= {"added_tokens": [token.model_dump() for token in plain], "model": model}
            encoder = Encoder.from_str(json.dumps(data))
            prefix = encoder.encode("", add_special_tokens=True).ids
        return cls(encoder, control, prefix=prefix, verbatim=[token.id for token in plain])

    @classmethod
    def from_tiktoken(cls, path: str | Path) -> Tokenizer:
        """Read the ``tokenizer.model`` that Meta publishes with Llama 4.

        Raises CheckpointError when it cannot be read, is damaged, or is of another kind.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
        ranks = vocabulary.read_ranks(data)
        control = vocabulary.control_tokens(len(ranks))
        merges = [(_spell(left), _spell(right)) for left, right in vocabulary.merges(ranks)]
        spellings = {_spell(token): rank for token, rank in ranks.items()}
        bos = control["<|begin_of_text|>"]
        return cls.from_vocabulary(spellings, merges, control, splitter="llama4", prefix=[bos])

    @classmethod
    def from_vocabulary(
        cls,
        spellings: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        control: Mapping[str, int],
        *,
        splitter: str,
        prefix: Sequence[int] = (),
    ) -> Tokenizer:
        """Build a tokenizer from a vocabulary without control tokens, given by ``spellings`` and ``merges``.

        ``splitter`` is a key of ``SPLITTERS``. Raises CheckpointError for an unknown one, and for merges that do not
        fit the vocabulary.
        """
        rule = SPLITTERS.get(splitter)
        if rule is None:
            raise CheckpointError(
                f"The tokenizer cuts words by a rule named {splitter!r} that is not known.",
                hint=f"Known rules: {', '.join(SPLITTERS)}.",
            )
        with _as_checkpoint_error("The tokenizer's merges do not fit its vocabulary"):
            model = models.BPE(dict(spellings), list(merges), ignore_merges=rule in (LLAMA3_WORDS, O200K_WORDS))
        encoder = Encoder(model)
        encoder.pre_tokenizer = _pre_tokenizer(rule)
        encoder.decoder = decoders.ByteLevel()
        return cls(encoder, control, prefix=prefix)

    def to_json(self) -> str:
        """The content of a ``tokenizer.json`` from which ``from_json`` builds the same tokenizer."""
        return tokenizer_json(self._encoder.to_str(), self.control, self.prefix)

    @property
    def size(self) -> int:
        """The highest id plus one."""
        return max((*self._spellings, *self._control_names), default=-1) + 1

    @property
    def turn_ends(self) -> frozenset[int]:
        """Ids of the tokens that end an answer of Llama 4; empty for other vocabularies."""
        return frozenset(self.control[name] for name in vocabulary.TURN_ENDS if name in self.control and self.is_llama4)

    def encode(self, text: str) -> list[int]:
        """Encode plain text, with the prefix."""
        return [*self.prefix, *self._encode_text(text)]

    def encode_chat(
        self,
        template: ChatTemplate | Llama4Prompt,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Encode a conversation rendered by a template; only the template's own text can give control tokens.

        Raises what ``ChatTemplate.render`` raises, and CheckpointError when the vocabulary lacks a control token.
        """
        if isinstance(template, Llama4Prompt):
            pieces = template.pieces(messages, tools=tools, add_generation_prompt=add_generation_prompt)
            return [token for piece in pieces for token in self._encode_piece(piece)]
        unmarked = template.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
        mark = next(chr(code) for code in _PRIVATE_USE if chr(code) not in unmarked)
        marked = template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            # With a mark after every possible first character, content cannot spell a control token, whole or joined.
            escape=lambda text: self._openings.sub(lambda match: match[0] + mark, text),
        )
        return self._encode_marked(marked, mark)

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text; control tokens have none."""
        return b"".join(self.token_bytes(token) for token in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, perhaps a part of a character; empty for control tokens and unknown ids."""
        spelling = self._spellings.get(token)
        if spelling is None:
            return b""
        if token in self._verbatim or not _BYTES.keys() >= set(spelling):
            return spelling.encode()
        return bytes(_BYTES[char] for char in spelling)

    def piece(self, token: int) -> str:
        """A token as text for display: control tokens by name, a partial character as U+FFFD."""
        return self._control_names.get(token) or self.token_bytes(token).decode("utf-8", errors="replace")

    def detokenizer(self) -> Callable[[int], str]:
        """A function that decodes ids one by one, keeping the bytes of an incomplete character until the rest comes."""
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        return lambda token: decode(self.token_bytes(token))

    @cached_property
    def _spellings(self) -> dict[int, str]:
        return {token: spelling for spelling, token in self._encoder.get_vocab().items()}

    @cached_property
    def _control_names(self) -> dict[int, str]:
        return {token: name for name, token in self.control.items()}

    def _encode_piece(self, piece: Piece) -> list[int]:
        if not isinstance(piece, Control):
            return self._encode_text(piece)
        if piece.name not in self.control:
            raise CheckpointError(f"The tokenizer has no control token '{piece.name}', which Llama 4's prompts need.")
        return [self.control[piece.name]]

    def _encode_marked(self, text: str, mark: str) -> list[int]:
        ids: list[int] = []
        end = 0
        for match in self._controls.finditer(text):
            ids += self._encode_text(text[end : match.start()].replace(mark, ""))
            ids.append(self.control[match[0]])
            end = match.end()
        return ids + self._encode_text(text[end:].replace(mark, ""))

    def _encode_text(self, text: str) -> list[int]:
        """Encode text without control tokens. A lone surrogate becomes U+FFFD."""
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        parts = vocabulary.segments(text) if self.is_llama4 else (text,)
        return [token for part in parts for token in self._encoder.encode(part, add_special_tokens=False).ids]


class _AddedToken(BaseModel, extra="allow"):
    id: int
    content: Annotated[str, Field(min_length=1)]
    special: bool


_JSON_OBJECT: Final = TypeAdapter(dict[str, JsonValue])
_ADDED_TOKENS: Final = TypeAdapter(list[_AddedToken])
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PRIVATE_USE: Final = range(0xE000, 0xF900)


@contextmanager
def _as_checkpoint_error(problem: str) -> Iterator[None]:
    """Turn errors of the tokenizers package into CheckpointError; its panics are no ``Exception``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise CheckpointError(f"{problem}: {error}.") from error


def _is_control(token: _AddedToken) -> bool:
    """Whether an added token is a control token: by its flag, or by its form, since converters forget some flags."""
    return token.special or (token.content.startswith("<") and token.content.endswith(">"))


def _plain_model(model: JsonValue, control: Mapping[str, int], plain: Mapping[str, int]) -> JsonValue:
    """The model part of a ``tokenizer.json`` without control tokens, so that no merge can produce one.

    The other added tokens are included, which preserves their ids.
    """
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model["vocab"], dict):
        raise ValueError("its model is not BPE")
    spellings = {token: number for token, number in model["vocab"].items() if token not in control} | dict(plain)
    unknown = model.get("unk_token")
    return model | {"vocab": spellings, "unk_token": unknown if unknown in spellings else None}


def _pre_tokenizer(rule: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if rule == "gpt2":
        return byte_level
    if rule == "digits":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    words = pre_tokenizers.Split(Regex(rule), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's spelling of bytes as visible characters: the same character, or one from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


def _spell(token: bytes) -> str:
    return "".join(map(_CHARS.__getitem__, token))


_BYTES: Final = _byte_alphabet()
_CHARS: Final = {byte: char for char, byte in _BYTES.items()}
