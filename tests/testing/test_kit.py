"""The conformance kit itself: a right backend passes, and each wrong one fails exactly where it is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent

WRONGS = {
    "Right": set(),
    "NoFinish": {"test_a_stream_ends_with_finish"},
    "TwoFinishes": {"test_nothing_follows_finish"},
    "TextAfterFinish": {"test_nothing_follows_finish"},
    "StrangeEvent": {"test_events_are_events"},
    "BrokenCharacters": {"test_characters_are_whole"},
    "Unseeded": {"test_same_seed_same_answer"},
    "NoUsage": {"test_usage_is_reported"},
    "Miscounts": {"test_usage_agrees_with_count_tokens"},
    "NoLogprobs": {"test_logprobs_come_with_the_text"},
    "IgnoresMaxTokens": {"test_max_tokens_is_respected", "test_more_tokens_than_the_context_has_are_refused"},
    "CutsInSilence": {"test_more_tokens_than_the_context_has_are_refused"},
    "LeaksStop": {"test_it_ends_before_a_stop_string"},
    "IgnoresSchemas": {"test_an_answer_is_of_its_json_schema"},
    "RaisesValueError": {
        "test_a_prompt_beyond_the_context_is_refused",
        "test_more_tokens_than_the_context_has_are_refused",
    },
    "AnotherContext": {"test_the_engine_has_the_planned_context"},
    "LoadsBackwards": {"test_loading_tells_how_far_it_is"},
    "ClosesOnce": {"test_closing_twice_is_harmless"},
    "NeverCloses": {"test_closing_the_engine_ends_its_streams", "test_a_closed_engine_refuses_work"},
    "LeaksSlots": {"test_an_abandoned_stream_frees_its_place"},
    "CannotBeClosed": {"test_an_abandoned_stream_frees_its_place"},
    "SharesState": {"test_two_engines_coexist"},
    "ExtraVector": {"test_one_vector_per_text"},
    "NotNormalised": {"test_vectors_have_length_one"},
    "BatchLeaks": {"test_a_batch_equals_its_parts"},
    "OneVectorForAll": {"test_different_texts_have_different_vectors"},
    "ScoresTheFirst": {"test_every_token_but_the_first_is_scored"},
    "ScoresProbabilities": {
        "test_every_token_but_the_first_is_scored",
        "test_alternatives_come_likeliest_first",
    },
    "RanksUpwards": {"test_alternatives_come_likeliest_first"},
    "ScoresOneWindow": {"test_windows_lose_no_token"},
    "ScoresAnyWindow": {"test_a_window_beyond_the_context_is_refused"},
    "AsyncDiffers": {"test_both_clients_answer_alike"},
    "OffersDiffer": {"test_same_question_same_answer"},
    "OffersEveryModel": {"test_an_unknown_model_is_refused"},
    "IgnoresDevice": {"test_a_missing_device_is_refused"},
    "IgnoresQuantization": {"test_a_chosen_quantization_is_kept"},
    "IgnoresContext": {"test_a_chosen_context_is_kept"},
    "OffersTooMuch": {"test_promises_no_more_memory_than_is_free"},
    "OffersElsewhere": {"test_offers_or_says_why_not"},
    "RefusesCurtly": {"test_an_unknown_model_is_refused"},
    "OffersSlowly": {"test_offering_is_quick_and_touches_nothing"},
    "OffersOnline": {"test_offering_is_quick_and_touches_nothing"},
    "TrustsAnything": {"test_missing_weights_are_named", "test_damaged_weights_are_an_error"},
    "HeavyHook": {"test_the_hook_imports_nothing_heavy"},
    "Misnamed": {"test_name_matches"},
    "Misplaced": {"test_the_card_names_this_class"},
    "SaysNothing": {"test_the_summary_says_something"},
    "Singleton": {"test_it_is_made_without_arguments"},
    "NotInstalled": {"test_the_entry_point_leads_to_it"},
}

IN_A_PROCESS_OF_THEIR_OWN = "test_the_hook_imports_nothing_heavy", "test_offering_is_quick_and_touches_nothing"

MODULE = """
import pytest, wrongs
from llama4sdk.testing import BackendConformance
"""

Verdicts = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which ``wrongs`` is an installed plugin."""
    folder = tmp_path_factory.mktemp("kit")
    shutil.copytree(HERE / "wrongs", folder / "wrongs", ignore=shutil.ignore_patterns("__pycache__"))
    metadata = folder / "wrongs-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: wrongs\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[llama4sdk]\nwrongs = wrongs\n")
    return folder


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one module in ``folder``, with that folder's plugin installed."""
    (folder / "test_mine.py").write_text(MODULE + text)
    environment = os.environ | {"PYTHONPATH": str(folder), "LLAMA4SDK_OFFER_DEADLINE": "2"}
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options, "test_mine.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def verdicts(plugin: Path) -> Verdicts:
    """For each class, the names of the tests that passed, failed, were skipped, or had an error."""
    classes = [f"class Test{name}(BackendConformance):\n    backend = wrongs.{name}\n" for name in WRONGS]
    slow = {name for name, expected in WRONGS.items() if expected & set(IN_A_PROCESS_OF_THEIR_OWN) or name == "Right"}
    deselect = [
        f"--deselect=test_mine.py::Test{name}::{test}"
        for name in WRONGS.keys() - slow
        for test in IN_A_PROCESS_OF_THEIR_OWN
    ]
    outcome = run(plugin, "\n".join(classes), "--junitxml=report.xml", *deselect)
    assert (plugin / "report.xml").exists(), outcome.stdout + outcome.stderr
    found: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case in ElementTree.parse(plugin / "report.xml").iter("testcase"):
        kind = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        name = case.attrib["classname"].rpartition("Test")[2]
        found[name][kind].add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.parametrize("name", WRONGS)
def test_each_wrong_backend_fails_where_it_is_wrong(verdicts: Verdicts, name: str) -> None:
    """A backend that breaks one rule fails the tests of that rule, and no other."""
    assert verdicts[name]["failure"] == WRONGS[name]


def test_a_right_backend_passes_or_skips_with_a_reason(verdicts: Verdicts) -> None:
    """Tests of declared features pass, those of others are skipped, and none is left over."""
    assert verdicts["Right"]["skipped"] == {
        "test_logprobs_come_with_the_text",
        "test_an_answer_matches_its_regex",
        "test_an_answer_is_of_its_grammar",
        "test_a_required_tool_is_called",
        "test_missing_weights_are_named",
        "test_damaged_weights_are_an_error",
    }
    assert len(verdicts["Right"]["passed"]) > 40
    assert not verdicts["Right"]["error"]


def test_without_its_entry_point_nothing_else_is_judged(verdicts: Verdicts) -> None:
    """For a backend that cannot be found, every test that needs an engine is an error and not a pass."""
    assert "test_a_stream_ends_with_finish" in verdicts["NotInstalled"]["error"]
    assert "test_a_stream_ends_with_finish" not in verdicts["NotInstalled"]["passed"]


def test_a_failure_says_what_to_fix(plugin: Path) -> None:
    """The message of a failed test ends with what its author should change."""
    outcome = run(
        plugin, "class TestIt(BackendConformance):\n    backend = wrongs.NoFinish\n", "-k", "ends_with_finish"
    )
    assert "The stream ended without Finish." in outcome.stdout
    assert "Fix: yield Finish(…) last." in outcome.stdout


@pytest.mark.parametrize(
    "body",
    [
        "    def test_closing_twice_is_harmless(self): pass",
        "    test_closing_twice_is_harmless = None",
        "    @pytest.mark.skip(reason='later')\n    def test_closing_twice_is_harmless(self): pass",
        "    @pytest.mark.xfail(reason='later', strict=False)\n    def test_closing_twice_is_harmless(self): pass",
        "    @pytest.mark.xfail(strict=True)\n    def test_closing_twice_is_harmless(self): pass",
    ],
    ids=["replaced", "removed", "skipped", "lenient", "without-reason"],
)
def test_a_standard_test_cannot_be_dropped_quietly(plugin: Path, body: str) -> None:
    """Overriding a standard test stops the run, with the test's name."""
    outcome = run(plugin, f"class TestIt(BackendConformance):\n    backend = wrongs.ClosesOnce\n{body}\n")
    assert outcome.returncode != 0
    assert "TestIt overrides standard conformance tests: test_closing_twice_is_harmless." in outcome.stdout


def test_a_known_failure_can_be_declared(plugin: Path) -> None:
    """An override that is marked as a strict expected failure, with a reason, stays in the report as such."""
    body = """
class TestIt(BackendConformance):
    backend = wrongs.ClosesOnce

    @pytest.mark.xfail(strict=True, reason="upstream frees twice")
    def test_closing_twice_is_harmless(self, make_engine):
        super().test_closing_twice_is_harmless(make_engine)
"""
    outcome = run(plugin, body, "-k", "closing_twice")
    assert outcome.returncode == 0
    assert "1 xfailed" in outcome.stdout
    assert "upstream frees twice" in outcome.stdout
