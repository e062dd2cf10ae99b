"""Figures: one look, whole files, the right marks."""

import numpy as np
import pytest

from dfx.runs import mean_interval

style = pytest.importorskip("analysis.style")


def luminance(color):
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_a_figure_is_saved_whole_at_its_size_and_closed(tmp_path):
    fig, axes = style.figure(1, 2, width=style.COLUMN)
    assert axes.shape == (1, 2)
    axes[0, 0].plot([0, 1])
    path = style.save(fig, tmp_path / "figures", "a")
    assert path == tmp_path / "figures" / "a.png"
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    assert style.plt.imread(path).shape[1] == round(style.COLUMN * style.DPI)
    assert not style.plt.fignum_exists(fig.number)


def test_the_same_drawing_gives_the_same_bytes(tmp_path):
    def drawn(name):
        fig, axes = style.figure(width=2)
        style.band(axes[0, 0], [0, 1], np.eye(2))
        return style.save(fig, tmp_path, name).read_bytes()

    assert drawn("a") == drawn("b")


def test_bands_and_bars_show_the_interval_over_seeds():
    values = np.random.default_rng(0).normal(size=(5, 4))
    _, low, high = mean_interval(values)
    fig, axes = style.figure(1, 2)
    style.band(axes[0, 0], range(4), values)
    edges = axes[0, 0].collections[0].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(high.max()) and edges.min() == pytest.approx(low.min())
    style.points(axes[0, 1], range(4), values)
    ends = np.array([s[:, 1] for s in axes[0, 1].containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([low, high], 1))
    style.plt.close(fig)


def test_the_line_of_the_paper_is_at_its_value():
    fig, axes = style.figure()
    style.paper_value(axes[0, 0], 0.3)
    style.paper_value(axes[0, 0], 0.6, "theirs", axis="x")
    lines = axes[0, 0].get_lines()
    assert list(lines[0].get_ydata()) == [0.3, 0.3] and list(lines[1].get_xdata()) == [0.6, 0.6]
    assert [text.get_text() for text in axes[0, 0].texts] == ["paper", "theirs"]
    style.plt.close(fig)


def test_pictures_lie_in_rows_with_white_between():
    images = np.stack([np.full((2, 3), i / 4) for i in range(4)])
    fig, axes = style.figure()
    style.pictures(axes[0, 0], images[:3], columns=2)
    shown = axes[0, 0].images[0].get_array()
    assert shown.shape == (5, 7, 3)
    np.testing.assert_allclose(shown[:2, :3], 0.0)
    np.testing.assert_allclose(shown[:2, 4:], 0.25)
    np.testing.assert_allclose(shown[3:, :3], 0.5)
    np.testing.assert_allclose(shown[3:, 4:], 1.0)  # no fourth picture
    np.testing.assert_allclose(shown[2], 1.0)
    style.pictures(axes[0, 0], np.zeros((1, 2, 2, 3)) - 1, columns=1, low=-1)
    np.testing.assert_allclose(axes[0, 0].images[1].get_array(), 0.0)
    style.plt.close(fig)


def test_panels_are_lettered_in_order():
    fig, axes = style.figure(2, 2)
    style.panel_labels(axes)
    titles = [ax.get_title(loc="left") for ax in axes.ravel()]
    assert titles == ["(a)", "(b)", "(c)", "(d)"]
    style.plt.close(fig)


def test_colours_differ_and_the_first_are_dark_enough_on_white():
    assert len(set(style.COLORS)) == len(style.COLORS) == 8
    # Contrast 3 on white is what WCAG 2 asks of graphics; yellow comes last for that reason.
    assert all(1.05 / (luminance(color) + 0.05) >= 3 for color in style.COLORS[:3])
