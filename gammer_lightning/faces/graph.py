"""The facial graph: landmark regions, the raw and the optimised graph as plain data, and one drawing of them.

Nodes are dlib's 68 landmarks (iBUG 300-W numbering). Which nodes and edges the paper uses is not published:
its regions are read from Sec. 2.2, the edges here are our choice.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Literal, get_args

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from gammer_lightning.errors import GammerError

REGIONS = {
    "contour": tuple(range(0, 17)),
    "brows": tuple(range(17, 27)),
    "nose_bridge": tuple(range(27, 30)),
    "nose_tip": tuple(range(30, 36)),
    "eyes": tuple(range(36, 48)),
    "mouth": tuple(range(48, 68)),
}
PAPER_REGIONS = ("brows", "nose_tip", "mouth")
GraphName = Literal["raw", "optimised"]
GRAPHS = get_args(GraphName)
NEIGHBOURS = 3

# Consecutive landmarks of a chain are linked; a chain that ends where it begins is closed.
CHAINS = (
    tuple(range(0, 17)),
    tuple(range(17, 22)),
    tuple(range(22, 27)),
    (27, 28, 29, 30, 33),
    tuple(range(31, 36)),
    (*range(36, 42), 36),
    (*range(42, 48), 42),
    (*range(48, 60), 48),
    (*range(60, 68), 60),
)

# Distant links of the optimised graph, beside the mirror pairs.
# Source: co-occurring action units (FACS, EMFACS).
DISTANT_LINKS = {
    "inner brow with nose (AU 4 + 9)": ((21, 27), (22, 27), (21, 31), (22, 35)),
    "nose wing with lip corner (AU 9, 10, 12: the nasolabial fold)": ((31, 48), (35, 54)),
    "inner brow with lip corner (AU 1 + 4 + 15)": ((21, 48), (22, 54)),
    "outer brow with lip corner (AU 1 + 2 + 20)": ((18, 48), (25, 54)),
}

# MIRROR[i] is the landmark that takes i's place in the mirror image.
MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip

# Mean of dlib's landmarks over 107 frontal portraits, made symmetric; unit: interocular distance (IOD),
# origin between the eyes, y downwards.
MEAN_FACE = (
    (-1.07, .01), (-1.06, .30), (-1.03, .59), (-.98, .87), (-.89, 1.14), (-.74, 1.38), (-.53, 1.58),
    (-.29, 1.73), (0, 1.77), (.29, 1.73),
    (.53, 1.58), (.74, 1.38), (.89, 1.14), (.98, .87), (1.03, .59), (1.06, .30), (1.07, .01),
    (-.90, -.16), (-.77, -.30), (-.57, -.34), (-.37, -.31), (-.17, -.24),
    (.17, -.24), (.37, -.31), (.57, -.34), (.77, -.30), (.90, -.16),
    (0, -.04), (0, .16), (0, .36), (0, .56), (-.26, .67), (-.13, .71), (0, .75), (.13, .71), (.26, .67),
    (-.69, .01), (-.57, -.06), (-.43, -.06), (-.30, .03), (-.44, .04), (-.57, .04),
    (.30, .03), (.43, -.06), (.57, -.06), (.69, .01), (.57, .04), (.44, .04),
    (-.47, 1.01), (-.29, .96), (-.13, .93), (0, .96), (.13, .93), (.29, .96), (.47, 1.01),
    (.30, 1.15), (.14, 1.21), (0, 1.23), (-.14, 1.21), (-.30, 1.15),
    (-.40, 1.02), (-.13, 1.03), (0, 1.04), (.13, 1.03), (.40, 1.02), (.13, 1.06), (0, 1.07), (-.13, 1.06),
)  # fmt: skip


def nodes_of(regions: Sequence[str]) -> tuple[int, ...]:
    """Return the landmarks of the named regions, in rising order.

    Args:
        regions: Names from `REGIONS`, or ``"all"``.

    Raises:
        GammerError: If a name is unknown or none is given.
    """
    names = list(REGIONS) if "all" in regions else list(regions)
    unknown = [name for name in names if name not in REGIONS]
    if isinstance(regions, str) or unknown or not names:
        raise GammerError(
            f"facial regions {regions!r}",
            f"a list of at least one of: {', '.join(REGIONS)}, all",
            "e.g. --model.regions [brows,nose_tip,mouth]",
        )
    nodes: set[int] = set()
    for name in names:
        nodes |= set(REGIONS[name])
    return tuple(sorted(nodes))


def adjacency(regions: Sequence[str], kind: GraphName) -> np.ndarray:
    """Return the graph over the named regions' nodes as a 0/1 matrix ``(N, N)``, float32, symmetric, with self loops.

    ``raw`` links the landmark chains and each node's nearest neighbours on a mean face. ``optimised`` adds
    links between distant, strongly related nodes: mirror pairs and `DISTANT_LINKS`.

    Raises:
        GammerError: If a region or the kind of graph is unknown.

    Source: paper Sec. 2.2; the edges are our choice.
    """
    if kind not in GRAPHS:
        raise GammerError(f"facial graph {kind!r}", f"one of: {', '.join(GRAPHS)}", "e.g. --model.graph optimised")
    nodes = list(nodes_of(regions))
    edges = list(chain.from_iterable(pairwise(landmarks) for landmarks in CHAINS))
    if kind == "optimised":
        edges += [(node, twin) for node, twin in enumerate(MIRROR) if node < twin]
        edges += chain.from_iterable(DISTANT_LINKS.values())
    linked = np.zeros((68, 68), bool)
    for node, neighbour in edges:
        linked[node, neighbour] = True
    linked = linked[nodes][:, nodes] | _nearest(nodes)
    loops = np.eye(len(nodes), dtype=bool)
    return (linked | linked.T | loops).astype(np.float32)


def draw_graph(
    image: np.ndarray,
    landmarks: np.ndarray,
    regions: Sequence[str],
    kind: GraphName,
    attention: np.ndarray | None = None,
) -> Figure:
    """Draw the graph on a face.

    Args:
        image: Face ``(H, W, 3)`` uint8.
        landmarks: All landmarks ``(68, 2)`` in px of the image.
        regions: Names from `REGIONS`, or ``"all"``.
        kind: ``"raw"`` or ``"optimised"``.
        attention: Weight of each edge ``(N, N)`` over the regions' nodes, as width and colour of the lines;
            the larger of the two directions counts.
    """
    points = np.asarray(landmarks)[list(nodes_of(regions))]
    rows, columns = np.nonzero(np.triu(adjacency(regions, kind), 1))
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image)
    axes.set_axis_off()
    segments = list(np.stack([points[rows], points[columns]], 1))
    title = f"{kind} graph, {len(points)} nodes"
    if attention is None:
        lines = LineCollection(segments, linewidths=1.0, colors="cyan")
    else:
        weight = np.maximum(attention, np.asarray(attention).T)[rows, columns]
        widths = 0.5 + 3.5 * weight / weight.max()
        lines = LineCollection(segments, linewidths=widths, array=weight, cmap="plasma")
        figure.colorbar(lines, ax=axes, shrink=0.5, label="attention")
    axes.add_collection(lines)
    axes.scatter(points[:, 0], points[:, 1], s=12, color="white", edgecolors="black", linewidths=0.5, zorder=3)
    axes.set_title(f"{title}, {len(rows)} edges", fontsize=10)
    return figure


def _nearest(nodes: list[int]) -> np.ndarray:
    """Link each node with its nearest among the given; equally near ones too, so that sides are alike."""
    face = np.array(MEAN_FACE)[nodes]
    distance = np.linalg.norm(face[:, None] - face, axis=-1)
    reach = np.sort(distance)[:, min(NEIGHBOURS, len(nodes) - 1), None]  # the bridge of the nose has three nodes only
    return distance <= reach + 1e-9
