"""Parse the text of a tool call, or of a list of calls. Pure; Python syntax is parsed, never run.

All functions raise one of ``PARSE_ERRORS`` for text that is no call.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Final, NamedTuple

from pydantic import JsonValue


class Call(NamedTuple):
    """A parsed call; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


PARSE_ERRORS: Final = (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError)
#: JSON's literals, which models also write in Python.
JSON_LITERALS: Final[dict[str, JsonValue]] = {"true": True, "false": False, "null": None}

_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_KNOWN_ESCAPES: Final = "\n\\'\"abfnrtvx0123NuU"


def python_calls(text: str) -> list[Call]:
    """Parse a Python list of calls with keyword arguments; empty for another expression."""
    # An escape that Python does not know (r"\d") would be a warning, and is meant literally.
    source = _ESCAPE.sub(lambda match: match[0] if match[1] in _KNOWN_ESCAPES else f"\\{match[0]}", text)
    tree = ast.parse(source, mode="eval").body
    return [_python_call(node) for node in tree.elts] if isinstance(tree, ast.List) else []


def json_calls(text: str) -> list[Call]:
    """Parse a JSON object or a list of objects, all of them calls."""
    value = _load(text)
    return [_json_call(item) for item in (value if isinstance(value, list) else [value])]


def built_in_call(text: str) -> list[Call]:
    """Parse ``name.call(query="…")``."""
    return [Call(call.name.removesuffix(".call"), call.arguments) for call in python_calls(f"[{text}]")]


def tagged_call(name: str, text: str) -> Call:
    """The call of ``name`` with the arguments ``text``, a JSON object."""
    return Call(name, _arguments(_load(text)))


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("it is no call with keyword arguments alone")
    arguments: dict[str, JsonValue] = {}
    for keyword in node.keywords:
        value = _literal(keyword.value)
        argument = value if keyword.arg is None else {keyword.arg: value}
        if not isinstance(argument, dict) or arguments.keys() & argument:
            raise ValueError("an argument is given twice, or what is unpacked is no dict")
        arguments |= argument
    return Call(_dotted_name(node.func), _dump(arguments))


def _dotted_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("a function is called by its name")


def _literal(node: ast.expr) -> JsonValue:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _literal(value) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=word):
            return JSON_LITERALS[word]
    raise ValueError("it is no literal")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("a key is a string")


def _json_call(item: JsonValue) -> Call:
    if not isinstance(item, dict):
        raise ValueError("it is no object")
    function = item.get("function", item)
    if isinstance(function, str):
        function = item | {"name": function}
    if not isinstance(function, dict) or not isinstance(name := function["name"], str) or not name:
        raise ValueError("it names no function")
    arguments = function["parameters"] if "parameters" in function else function.get("arguments")
    if arguments is None and item.get("type") == "function":
        arguments = {}
    return Call(name, _arguments(_load(arguments) if isinstance(arguments, str) else arguments))


def _arguments(value: JsonValue) -> str:
    if not isinstance(value, dict):
        raise ValueError("arguments are an object")
    return _dump(value)


def _load(text: str) -> JsonValue:
    value: JsonValue = json.loads(text, strict=False, parse_constant=_refuse)
    return value


def _dump(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _refuse(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is no JSON")
