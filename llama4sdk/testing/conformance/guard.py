"""A check that no standard test is left out silently."""

from __future__ import annotations


def refuse_overrides(cls: type, standard: type) -> None:
    """Raise TypeError naming the tests of ``standard`` that ``cls`` replaces without saying why."""
    names = [name for name in dir(standard) if name.startswith("test_")]
    replaced = [name for name in names if getattr(cls, name, None) is not getattr(standard, name)]
    silent = [name for name in replaced if not _excused(getattr(cls, name, None))]
    if silent:
        raise TypeError(
            f"{cls.__name__} overrides standard conformance tests: {', '.join(silent)}. "
            f'Mark each @pytest.mark.xfail(strict=True, reason="…") and call super(), or remove the override.'
        )


def _excused(test: object) -> bool:
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "xfail" and mark.kwargs.get("strict") is True and mark.kwargs.get("reason"):
            return True
    return False
