"""Assertions whose messages tell a plugin's author what is wrong and what to change."""

from __future__ import annotations


def assert_that(ok: bool, problem: str, *, fix: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    """Fail with the problem and its fix unless ``ok``."""
    __tracebackhide__ = True
    if not ok:
        raise AssertionError(f"{problem}\nFix: {fix}")


def assert_sentence(text: str, owner: str) -> None:
    """Fail unless ``text`` says something a person can use: three words at least."""
    __tracebackhide__ = True
    assert_that(
        len(text.split()) >= 3,
        f"{owner} is {text!r}, which explains nothing.",
        fix="write one sentence with the values that led to it, such as 'it needs 61 GB, 24 GB are free'.",
    )
