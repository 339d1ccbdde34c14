"""A fit on a made copy of each data set's layout, through the YAML that a lab would use."""

import json
import shutil
from pathlib import Path

import cv2
import layouts
import pytest

from gammer_lightning import cli
from gammer_lightning.data.microfaces.generate import synthesize
from gammer_lightning.data.microfaces.spec import MicrofacesSpec
from gammer_lightning.files import read_image

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SAMM_EMOTIONS = {"disgust": "Anger", "repression": "Contempt", "others": "Other"}
SMIC_EMOTIONS = {"happiness": "positive", "surprise": "surprise"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two subjects of microfaces, a clip of each class."""
    folder = tmp_path_factory.mktemp("microfaces")
    return synthesize(folder, MicrofacesSpec(subjects=2, clips_per_class=1, width=140, height=170, fps=50, benchmark=1))


def rows(clips, rename):
    return [
        (clip.subject, clip.name, clip.onset, clip.apex, clip.offset, clip.action_units, rename(clip.emotion))
        for clip in clips
    ]


def casme2(root, clips):
    layouts.casme2(root, rows(clips, str), "CASME2_RAW_selected")
    for clip in clips:
        folder = root / "CASME2_RAW_selected" / f"sub{clip.subject}" / clip.name
        copy(clip, folder, "img{}.jpg", lambda image: image)


def samm(root, clips):
    """Grey and large, frame numbers padded."""
    layouts.samm(root, rows(clips, lambda emotion: SAMM_EMOTIONS.get(emotion, emotion.title())))
    for clip in clips:
        folder = root / "SAMM" / f"{int(clip.subject):03d}" / clip.name
        copy(
            clip,
            folder,
            "006_{:05d}.jpg",
            lambda image: cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (560, 680)),
        )


def smic(root, clips):
    """Crops of 190x230."""
    for clip in clips:
        emotion = SMIC_EMOTIONS.get(clip.emotion, "negative")
        folder = root / "SMIC_all_cropped/HS" / f"s{int(clip.subject)}/micro/{emotion}/s{int(clip.subject)}_{clip.name}"
        copy(clip, folder, "reg_image{:06d}.bmp", lambda image: cv2.resize(image, (190, 230)))


def copy(clip, folder, name, change):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, frame in zip(clip.numbers, clip.frames, strict=True):
        if clip.onset <= number <= clip.offset:
            image = change(read_image(frame))
            cv2.imwrite(str(folder / name.format(number)), image if image.ndim == 2 else image[:, :, ::-1])


MAKE = {"casme2": casme2, "samm": samm, "smic": smic}


@pytest.fixture
def roots(clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, make in MAKE.items():
        make(tmp_path / name, clips)
        monkeypatch.setenv(f"GAMMER_{name.upper()}", str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize(
    ("experiment", "kept", "subjects"),
    [("casme2_5", 10, 2), ("samm_5", 10, 2), ("smic_3", 10, 2), ("composite_3", 8 + 8 + 10, 6)],
)
def test_a_lab_gets_results_from_its_own_folders(roots, experiment, kept, subjects, capsys):
    flags = {
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "model.seeds": "[0]",
        "data.magnifier": "eulerian",
        "data.alphas": "[5]",
        "data.train_alphas": "[5]",
        "out": "run",
        "wandb": "disabled",
    }
    config = EXPERIMENTS / f"recognize_{experiment}.yaml"
    arguments = ["recognize", "fit", "-c", str(config), *(f"--{name}={value}" for name, value in flags.items())]
    assert cli.main(arguments) == 0
    results = json.loads(Path("run/results.json").read_text())
    assert (results["clips"], results["subjects"]) == (kept, subjects)
    assert cli.main(["recognize", "table", "run"]) == 0
    assert ("Other runs:" in capsys.readouterr().out) == (experiment == "composite_3")


@pytest.mark.parametrize("name", MAKE)
def test_check_finds_only_that_the_copy_is_small(roots, name):
    assert cli.main(["data", "check", name, "--workers", "1"]) == 1
    problems = json.loads(Path(f"check/{name}.json").read_text())["problems"]
    assert [kind for kind, found in problems.items() if found] == ["other numbers than expected"]
