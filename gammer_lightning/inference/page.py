"""The page of a prediction: one HTML file that asks nothing of any server, with a slider over the strongest windows."""

import base64
import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from gammer_lightning.inference.prediction import Prediction
from gammer_lightning.reports.page import PAGE_HEAD

if TYPE_CHECKING:
    from gammer_lightning.inference.prediction import Example

PAGE = Template(
    PAGE_HEAD
    + """body { max-width: 66rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .8rem; }
.facts, .notes, figcaption { color: var(--soft); font-size: .9rem; }
.facts { margin: .2rem 0 1.5rem; }
.viewer { display: grid; grid-template-columns: minmax(0, 32rem) minmax(14rem, 1fr); gap: 2rem; align-items: start; }
.pair {
  position: relative; aspect-ratio: 1; overflow: hidden; border-radius: .6rem; border: 1px solid var(--rule);
  --cut: 50%; touch-action: pan-y; background: #000;
}
.pair img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
#magnified { clip-path: inset(0 0 0 var(--cut)); }
.pair::after {
  content: ""; position: absolute; top: 0; bottom: 0; left: var(--cut); width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 4px #000a; pointer-events: none;
}
.knob {
  position: absolute; top: 50%; left: var(--cut); width: 2.2rem; height: 2.2rem; margin: -1.1rem; border-radius: 50%;
  background: #fff; color: #22578f; box-shadow: 0 0 6px #0008; pointer-events: none; display: grid; place-items: center;
}
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.pair:focus-within { outline: 2px solid var(--link); outline-offset: 2px; }
.tag {
  position: absolute; top: .6rem; padding: .1rem .55rem; border-radius: 1rem; background: #000a; color: #fff;
  font-size: .82rem; pointer-events: none;
}
.tag.left { left: .6rem; } .tag.right { right: .6rem; }
.modes { display: flex; gap: .4rem; margin: .8rem 0 0; flex-wrap: wrap; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--rule); border-radius: .4rem;
  cursor: pointer; padding: .25rem .8rem; }
button[aria-pressed=true] { border-color: var(--link); background: var(--tint); color: var(--link); }
button:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .45rem .7rem; align-items: center; }
.bars span:nth-child(3n) { color: var(--soft); font-variant-numeric: tabular-nums; font-size: .9rem; }
.bar { height: .7rem; background: var(--tint); border-radius: .3rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--link); }
.said { font-size: 1.05rem; margin: 0 0 1rem; } .said small { display: block; color: var(--soft); font-size: .88rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .6rem; }
.strip button { padding: .35rem; text-align: left; font-size: .82rem; line-height: 1.35; background: var(--sheet); }
.strip img { width: 100%; aspect-ratio: 1; border-radius: .25rem; display: block; margin-bottom: .3rem; }
.strip b { font-weight: 600; } .strip span { color: var(--soft); display: block; }
figure { margin: 0; } figcaption { margin-top: .5rem; max-width: 60rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--rule);
  border-radius: .6rem; }
.notes { padding-left: 1.1rem; overflow-wrap: anywhere; }
@media (max-width: 46rem) {
  .viewer { grid-template-columns: minmax(0, 1fr); gap: 1.2rem; } body { padding-top: 1rem; }
}
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="facts">$facts</p>
$viewer
<h2>Timeline</h2>
<figure><img src="$timeline" alt="Motion and class probabilities over time" width="960">
<figcaption>$explained</figcaption></figure>
<ul class="notes">
$notes
</ul>
</main>
<script type="application/json" id="data">$data</script>
<script>
const windows = JSON.parse(document.getElementById("data").textContent);
const find = name => document.getElementById(name);
const chips = [...document.querySelectorAll(".strip button")], modes = [...document.querySelectorAll(".modes button")];
let chosen = 0, mode = "apex", timer = 0;
function show(moment) {
  const [onset, apex, magnified] = windows[chosen].pictures;
  find("original").src = moment === "onset" ? onset : apex;
  find("magnified").src = moment === "onset" ? onset : magnified;
}
function setMode(name) {
  clearInterval(timer);
  mode = name;
  modes.forEach(button => button.ariaPressed = button.value === name);
  let moment = name === "onset" ? "onset" : "apex";
  show(moment);
  if (name === "blink") timer = setInterval(() => show(moment = moment === "apex" ? "onset" : "apex"), 450);
}
function choose(index) {
  chosen = index;
  chips.forEach((chip, i) => chip.ariaPressed = i === index);
  const {said, detail, shares} = windows[index];
  const line = find("said");
  line.textContent = said;
  line.appendChild(document.createElement("small")).textContent = detail;
  find("bars").replaceChildren(...shares.flatMap(([name, share]) => {
    const [label, bar, number] = ["span", "span", "span"].map(tag => document.createElement(tag));
    label.textContent = name;
    bar.className = "bar";
    bar.appendChild(document.createElement("i")).style.width = share * 100 + "%";
    number.textContent = Math.round(share * 100) + "%";
    return [label, bar, number];
  }));
  setMode(mode);
}
if (windows.length) {
  find("cut").oninput = event => find("pair").style.setProperty("--cut", event.target.value + "%");
  modes.forEach(button => button.onclick = () => setMode(button.value));
  chips.forEach((chip, i) => chip.onclick = () => choose(i));
  choose(0);
}
</script>
</body>
</html>
"""
)
VIEWER = Template("""<div class="viewer">
<div>
<div class="pair" id="pair">
<img id="original" alt="the face as filmed" src="$apex"><img id="magnified" alt="the face magnified" src="$magnified">
<span class="tag left">original</span><span class="tag right">magnified, alpha $alpha</span>
<span class="knob" aria-hidden="true">◂▸</span>
<input type="range" id="cut" min="0" max="100" step="0.5" value="50" aria-label="between original and magnified">
</div>
<div class="modes" role="group" aria-label="moment">
<button value="onset" aria-pressed="false">onset</button><button value="apex" aria-pressed="true">apex</button>
<button value="blink" aria-pressed="false">alternate</button>
</div>
</div>
<div>
<p class="said" id="said" aria-live="polite"></p>
<div class="bars" id="bars"></div>
</div>
</div>
<h2>Strongest motion</h2>
<div class="strip">
$chips
</div>""")
EXPLAINED = (
    "Above: mean difference of onset and apex around brows, nose tip and mouth; numbers name the windows shown on this "
    "page, orange lines lead from their onset to their apex. The classes know no neutral face, so only windows whose "
    "motion stands out say anything, and where the head moves (pale) it may be that which is strong."
)


def page(result: Prediction, examples: Sequence["Example"], timeline: bytes) -> str:
    """Return the page.

    Args:
        result: The prediction.
        examples: The windows with pictures, strongest first.
        timeline: The timeline, a PNG.
    """
    windows = [_data(example, result) for example in examples]
    return PAGE.substitute(
        title=escape(f"{result.input}: magnified expressions"),
        facts=escape(_facts(result)),
        viewer=_viewer(result, examples, windows) if windows else "<p>No window can be shown.</p>",
        timeline=_uri(timeline, "png"),
        explained=escape(EXPLAINED),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in result.notes),
        data=json.dumps(windows, allow_nan=False).replace("<", "\\u003c"),
    )


def _facts(result: Prediction) -> str:
    height, width = result.size
    windows = "1 window" if len(result.windows) == 1 else f"{len(result.windows)} windows"
    without = len(result.windows) - len(result.predicted)
    if without:
        windows += f", {without} without a prediction"
    facts = [
        f"{result.frames} frames of {width}x{height} px in {result.seconds:.1f} s",
        windows,
        result.backend,
        f"{result.speed:.1f} frames/s",
    ]
    return " · ".join(facts)


def _viewer(result: Prediction, examples: Sequence["Example"], windows: Sequence[dict]) -> str:
    chips = []
    for rank, (example, data) in enumerate(zip(examples, windows, strict=True), 1):
        _, _, thumbnail = data["pictures"]
        window = example.window
        chips.append(
            f'<button aria-pressed="false"><img src="{thumbnail}" alt="">'
            f"<b>{rank} {escape(result.name(window))}</b>"
            f"<span>{window.apex_time:.2f} s, {window.probabilities.max():.0%}</span></button>"
        )
    _, apex, magnified = windows[0]["pictures"]
    return VIEWER.substitute(apex=apex, magnified=magnified, alpha=f"{result.alpha:g}", chips="\n".join(chips))


def _data(example: "Example", result: Prediction) -> dict:
    window = example.window
    detail = (
        f"onset {window.onset_time:.2f} s (frame {window.onset}), apex {window.apex_time:.2f} s "
        f"(frame {window.apex}); motion {window.strength:.2f} grey levels"
    )
    if window.head_motion is not None:
        detail += f", the head moved {window.head_motion:.1f} px of the crop"
    probabilities = np.round(window.probabilities, 4).tolist()
    return {
        "said": f"{result.name(window)}, {window.probabilities.max():.0%}",
        "detail": detail,
        "shares": list(zip(result.class_names, probabilities, strict=True)),
        "pictures": [_uri(picture, "jpeg") for picture in example.pictures],
    }


def _uri(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
