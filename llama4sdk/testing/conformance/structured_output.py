"""Structured output: JSON schemas, regular expressions, grammars and required tool calls."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, JsonValue, ValidationError

from llama4sdk.backend import Capabilities, Engine
from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.requests import Request, Tool
from llama4sdk.testing.conformance.ground import Ground, assert_that, require_feature
from llama4sdk.testing.conformance.outcome import Outcome, answer, require_finish

#: Tokens in which each of the answers fits, blanks included.
MAX_ANSWER_TOKENS: Final = 64


class _Llama(BaseModel, extra="forbid", strict=True):
    colour: Literal["brown", "white", "black"]
    age: Annotated[int, Field(ge=0, le=20)]


_PROPERTIES: Final[dict[str, JsonValue]] = {
    "colour": {"type": "string", "enum": ["brown", "white", "black"]},
    "age": {"type": "integer", "minimum": 0, "maximum": 20},
}
_SCHEMA: Final[dict[str, JsonValue]] = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": ["colour", "age"],
    "additionalProperties": False,
}
_FIX: Final = "constrain what may be drawn, or do not declare '{}'."


class StructuredOutput(Ground):
    """JSON schemas, regular expressions, grammars, and calls that must be made."""

    def test_an_answer_is_of_its_json_schema(self, engine: Engine, can: Capabilities) -> None:
        """An answer to a request with a JSON schema is JSON that the schema allows, and nothing besides."""
        require_feature(can, "json_schema")
        prompt = "Describe a llama in JSON, by its colour (brown, white or black) and age (0 to 20)."
        outcome = self._constrained(engine, can, prompt, JsonSchema(definition=_SCHEMA))
        try:
            _Llama.model_validate_json(outcome.text)
            fits = True
        except ValidationError:
            fits = False
        assert_that(fits, f"{outcome.text!r} is not what {_SCHEMA} allows.", fix=_FIX.format("json_schema"))

    def test_an_answer_matches_its_regex(self, engine: Engine, can: Capabilities) -> None:
        """The whole answer matches the regular expression."""
        require_feature(can, "regex")
        pattern = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
        text = self._constrained(engine, can, "When was it? As YYYY-MM-DD.", Regex(pattern=pattern)).text
        fits = re.fullmatch(pattern, text) is not None
        assert_that(fits, f"{text!r} does not match {pattern!r}.", fix=_FIX.format("regex"))

    def test_an_answer_is_of_its_grammar(self, engine: Engine, can: Capabilities) -> None:
        """The answer is a sentence of the grammar."""
        require_feature(can, "grammar")
        lark = 'start: "(" inner ")"\ninner: "yes" | "no"'
        text = self._constrained(engine, can, "Yes or no, in brackets?", Grammar(lark=lark)).text
        assert_that(text in ("(yes)", "(no)"), f"{text!r} is not of the grammar {lark!r}.", fix=_FIX.format("grammar"))

    def test_a_required_tool_is_called(self, engine: Engine, can: Capabilities) -> None:
        """With ``tool_choice="required"`` the answer calls a tool, with arguments that fit."""
        require_feature(can, "tool_choice")
        tool = Tool(name="count_llamas", description="Counts llamas.", parameters=_SCHEMA)
        request = self.request(can, "How many llamas are there?", max_tokens=MAX_ANSWER_TOKENS)
        request = request.model_copy(update={"tools": (tool,), "tool_choice": "required"})
        calls = answer(engine, request).completion.tool_calls
        assert_that(
            bool(calls) and all(call.name == tool.name for call in calls),
            f"A call of '{tool.name}' was required; the calls are {calls}.",
            fix=_FIX.format("tool_choice"),
        )
        for call in calls:
            _Llama.model_validate_json(call.arguments)

    def _constrained(self, engine: Engine, can: Capabilities, prompt: str, constraint: Constraint) -> Outcome:
        plain: Request = self.request(can, prompt, max_tokens=MAX_ANSWER_TOKENS)
        outcome = answer(engine, plain.model_copy(update={"constraint": constraint}))
        require_finish(outcome)
        return outcome
