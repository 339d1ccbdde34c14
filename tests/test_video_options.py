"""Every numeric option of the verbs that read videos, bundles and runs: what it cannot be is refused at once."""

import pytest

from gammer_lightning import cli

VALUES = ("x", "", "nan", "inf", "-inf", "-1", "0", "1.5e300", "1e-300", 30 * "9", 5000 * "9")
"""Of the wrong kind, size and sign."""
ACCEPTED = {
    "--alpha": ("0", "1e-300"),
    "--limit": ("inf", "1.5e300", "1e-300", 30 * "9", 5000 * "9"),
    "--face": ("-1", "0", "1.5e300", "1e-300", 30 * "9"),  # until the size of a frame is known
}
"""Those that are right for an option, or may be."""
GIVEN = {
    "predict": ["nowhere", "nothing.mp4"],
    "magnify video": ["nothing.mp4", "out.mp4"],
    "magnify compare": ["--root", "nowhere"],
    "export": ["nowhere"],
    "bench export": ["nowhere"],
}
"""The arguments of each verb; none of these exists, so what is read before an option is checked is in the message."""
MISSING = ("nowhere", "no input at nothing.mp4")


def numeric_options(verb):
    """Names of a verb's numeric options, with the number of values that they take."""
    for action in cli.verb_parser(verb)._actions:
        if action.type in (int, float) or action.dest == "batch":
            yield action.option_strings[0], action.nargs or 1


OPTIONS = [(verb, *option) for verb in GIVEN for option in numeric_options(verb)]


def test_all_options_are_here():
    assert {option for _, option, _ in OPTIONS} == {
        "--alpha", "--apex", "--band", "--batch", "--clips", "--face", "--fps", "--hop", "--limit", "--onset",
        "--repeats", "--rounds", "--scenes", "--size", "--threads", "--window",
    }  # fmt: skip


@pytest.mark.parametrize(("verb", "option", "count"), OPTIONS)
def test_bad_values_are_refused_before_anything_is_read(verb, option, count, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in set(VALUES) - set(ACCEPTED.get(option, ())):
        words = [f"{option}={value}"] if count == 1 else [option, *[value] * count]
        assert cli.main([*verb.split(), *GIVEN[verb], *words]) == 2, value
        said = capsys.readouterr().err
        assert said.startswith("error: ") and len(said) < 2000 + len(value), value[:20]
        assert "Traceback" not in said and not any(missing in said.splitlines()[0] for missing in MISSING), said
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("verb", "option", "count"), [one for one in OPTIONS if one[1] in ACCEPTED])
def test_good_values_are_taken(verb, option, count, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in ACCEPTED[option]:
        words = [f"{option}={value}"] if count == 1 else [option, *[value] * count]
        assert cli.main([*verb.split(), *GIVEN[verb], *words]) == 2
        said = capsys.readouterr().err
        assert any(missing in said for missing in MISSING), value[:20]
