"""The program on a real terminal: conversation, Ctrl-C, Ctrl-D, questions, colour."""

from __future__ import annotations

from typing import Any

CTRL_C, CTRL_D = "\x03", "\x04"


def test_a_conversation(terminal: Any) -> None:
    """Questions are answered until Ctrl-D; an unknown command lists the known ones."""
    with terminal("chat", "-m", "echo") as screen:
        screen.expect("Ctrl-D leaves.")
        screen.expect("> ")
        screen.press("good morning\r")
        screen.expect("good morning\r\ngood morning\r\n> ")
        screen.press("/help\r")
        assert "/clear" in screen.expect("> ")
        screen.press("/hlep\r")
        assert "There is no command /hlep" in screen.expect("> ")
        screen.press("/clear\r")
        screen.expect("Forgotten.")
        screen.expect("> ")
        screen.press(CTRL_D)
        assert screen.finish() == 0


def test_exit_leaves(terminal: Any) -> None:
    """/exit ends the conversation."""
    with terminal("chat", "-m", "echo") as screen:
        screen.expect("> ")
        screen.press("/exit\r")
        assert screen.finish() == 0


def test_ctrl_c_stops_the_answer_not_the_program(terminal: Any, slow: Any) -> None:
    """After Ctrl-C the prompt is back, and the next question knows the one that was stopped."""
    with terminal("chat", "-m", "slow", env=slow) as screen:
        screen.expect("> ")
        screen.press("go on\r")
        screen.expect("answer 1 and and ")
        screen.press(CTRL_C)
        screen.expect("Stopped.")
        screen.expect("> ")
        screen.press("again\r")
        screen.expect("answer 2 and ")
        screen.press(CTRL_C)
        screen.expect("Stopped.")
        screen.expect("> ")
        screen.press(CTRL_D)
        assert screen.finish() == 0


def test_ctrl_c_at_the_prompt_drops_the_line(terminal: Any) -> None:
    """Ctrl-C at the prompt drops the line and does not end the program."""
    with terminal("chat", "-m", "echo") as screen:
        screen.expect("> ")
        screen.press("never")
        screen.expect("never")
        screen.interrupt("Ctrl-D leaves.")
        screen.press("sent\r")
        screen.expect("sent\r\nsent\r\n> ")
        screen.press(CTRL_D)
        assert screen.finish() == 0


def test_an_error_does_not_end_the_conversation(terminal: Any) -> None:
    """A question that is too long is an error in words, and the next one is answered."""
    with terminal("chat", "-m", "echo", "-c", "4") as screen:
        screen.expect("> ")
        screen.press("one two three four five\r")
        screen.expect("Error:")
        screen.expect("/clear starts anew")
        screen.expect("> ")
        screen.press("short\r")
        screen.expect("short\r\nshort\r\n> ")


def test_loading_that_takes_a_while_shows_a_bar(terminal: Any, heavy: Any) -> None:
    """Bytes and speed are shown while weights load; then the line is cleared and the answer comes."""
    with terminal("generate", "--backend", "heavy", "hi there", env=heavy | {"HEAVY": "90"}) as screen:
        screen.expect("Loading echo …")
        screen.expect("Loading echo \u2501")
        screen.expect("/90.0 MB")
        assert "MB/s" in screen.expect("hi there\r\n")
        assert screen.finish() == 0


def test_ctrl_c_while_loading(terminal: Any, heavy: Any) -> None:
    """It ends with exit status 130 and one word, and the cursor is back."""
    with terminal("chat", "--backend", "heavy", "hi", env=heavy | {"HEAVY": "3000"}) as screen:
        screen.expect("/3.0 GB")
        screen.press(CTRL_C)
        assert "\x1b[?25h" in screen.expect("Interrupted.")
        assert screen.finish() == 130
        assert "Traceback" not in screen.seen


def test_pull_asks(terminal: Any) -> None:
    """On a terminal pull asks before a download, and "n" fetches nothing."""
    with terminal("pull", "demo") as screen:
        screen.expect("Download SmolLM2 135M Instruct (98 MB, Apache-2.0)? [Y/n] ")
        screen.press("n\r")
        assert screen.finish() == 4
        assert "is not on this machine" in " ".join(screen.seen.split())


def test_ctrl_c_at_the_question(terminal: Any) -> None:
    """Ctrl-C instead of an answer is exit status 130."""
    with terminal("pull", "demo") as screen:
        screen.expect("? [Y/n] ")
        screen.interrupt("Interrupted.")
        assert screen.finish() == 130
        assert "Traceback" not in screen.seen


def test_colour_on_a_terminal_only_without_no_color(terminal: Any) -> None:
    """A terminal gets colour; NO_COLOR takes it away."""
    with terminal("doctor", env={"NO_COLOR": ""}) as screen:
        screen.finish()
        assert "\x1b[32m✓" in screen.seen
    with terminal("doctor") as screen:
        screen.finish()
        assert "\x1b[32m" not in screen.seen
