"""The facial graph: regions, raw and optimised edges, the drawing."""

import io

import numpy as np
import pytest

from gammer_lightning.errors import GammerError
from gammer_lightning.faces.graph import MEAN_FACE, MIRROR, PAPER_REGIONS, REGIONS, adjacency, draw_graph, nodes_of


def linked(kind, regions, pair):
    nodes = nodes_of(regions)
    return bool(adjacency(regions, kind)[nodes.index(pair[0]), nodes.index(pair[1])])


def test_regions_partition_the_68_landmarks():
    assert sorted(node for nodes in REGIONS.values() for node in nodes) == list(range(68))
    assert nodes_of(["all"]) == tuple(range(68))
    assert len(nodes_of(PAPER_REGIONS)) == 36
    assert nodes_of(["mouth", "brows"]) == nodes_of(["brows", "mouth", "mouth"])


def test_mean_face_is_its_own_mirror_image():
    face = np.array(MEAN_FACE)
    assert face.shape == (68, 2)
    assert np.allclose(face[list(MIRROR)] * [-1, 1], face)
    assert np.allclose(face[42:48].mean(0) - face[36:42].mean(0), [1, 0], atol=0.01)  # unit: IOD


@pytest.mark.parametrize("kind", ["raw", "optimised"])
@pytest.mark.parametrize("regions", [PAPER_REGIONS, ("all",), ("eyes",), ("nose_bridge",), ("nose_bridge", "contour")])
def test_graph_is_symmetric_with_self_loops_and_the_same_mirrored(kind, regions):
    graph, nodes = adjacency(regions, kind), nodes_of(regions)
    mirrored = [nodes.index(MIRROR[node]) for node in nodes]
    assert np.unique(graph).tolist() in ([0, 1], [1])
    assert np.array_equal(graph, graph.T) and graph.diagonal().all()
    assert np.array_equal(graph, graph[mirrored][:, mirrored])


def test_optimised_graph_adds_the_distant_links_and_keeps_the_rest():
    raw, optimised = adjacency(PAPER_REGIONS, "raw"), adjacency(PAPER_REGIONS, "optimised")
    assert (optimised >= raw).all() and optimised.sum() > raw.sum()
    for pair in [(17, 26), (21, 31), (31, 48), (35, 54), (21, 48), (48, 54)]:
        assert linked("optimised", PAPER_REGIONS, pair) and not linked("raw", PAPER_REGIONS, pair)
    assert linked("raw", PAPER_REGIONS, (48, 49)) and linked("raw", PAPER_REGIONS, (48, 59))


def test_only_the_optimised_graph_connects_the_papers_regions():
    connected = {
        kind: np.linalg.matrix_power(adjacency(PAPER_REGIONS, kind), 36).all() for kind in ("raw", "optimised")
    }
    assert connected["optimised"] and not connected["raw"]


@pytest.mark.parametrize("regions", [["nose"], [], "brows", ["brows", "chin"]])
def test_unknown_regions_are_refused_with_the_known_ones(regions):
    with pytest.raises(GammerError, match="nose_tip"):
        nodes_of(regions)


def test_unknown_graph_is_refused():
    with pytest.raises(GammerError, match=r"'dense'.*\n.*raw, optimised"):
        adjacency(PAPER_REGIONS, "dense")


def test_drawing_shows_every_edge_and_attention_as_width():
    face, points = np.full((100, 100, 3), 200, np.uint8), np.array(MEAN_FACE) * 30 + 45
    edges = int((adjacency(PAPER_REGIONS, "optimised").sum() - 36) / 2)
    plain = draw_graph(face, points, PAPER_REGIONS, "optimised").axes[0].collections[0]
    assert len(plain.get_segments()) == edges and set(plain.get_linewidths()) == {1.0}

    figure = draw_graph(face, points, PAPER_REGIONS, "optimised", np.random.default_rng(0).random((36, 36)))
    weighted = figure.axes[0].collections[0]
    assert len(np.unique(weighted.get_linewidths())) == edges
    assert np.argmax(weighted.get_linewidths()) == np.argmax(weighted.get_array())
    figure.savefig(buffer := io.BytesIO())
    assert buffer.getvalue()[:4] == b"\x89PNG"
