"""Scales and charts: ticks within their limits, and markup that a browser takes."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.charts import Row, Scale, distribution, fine_ticks, forest, plot


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{markup}</div>")


@given(st.floats(1e-3, 1e6), st.floats(1.2, 1e4), st.booleans())
def test_ticks_lie_within_the_scale_and_ascend(low: float, times: float, log: bool) -> None:
    scale = Scale(low, low * times, 0, 100, log=log)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= scale(tick) <= 100 + 1e-6 for tick in ticks) and len(ticks) <= 12


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (108, [0, 20, 40, 60, 80, 100]),
        (3.3, [0, 1, 2, 3]),
        (0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_linear_ticks_are_round(high: float, ticks: list[float]) -> None:
    assert Scale(0, high, 0, 1).ticks() == pytest.approx(ticks)


def test_a_narrow_ratio_axis_still_has_ticks() -> None:
    assert len(fine_ticks(Scale(0.86, 1.16, 0, 1, log=True))) >= 3


def test_names_are_escaped_and_points_land_where_they_should() -> None:
    chart = parse(plot("<t>", {"a&b": [(0.0, 0.0), (10.0, 5.0)]}, ("x", "y")))
    (line,) = chart.iter("polyline")
    (left, bottom), (right, top) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert left < right and top < bottom
    assert chart.find("figure/svg").attrib["aria-label"] == "<t>"  # type: ignore[union-attr]
    assert "a&b" in "".join(chart.itertext())


def test_one_value_and_equal_values_can_be_drawn() -> None:
    for line in ([(5.0, 5.0)], [(0.0, 0.0)], [(3.0, 1.0), (3.0, 1.0)]):
        parse(plot("t", {"a": line}, ("x", "y")))


def test_a_distribution_rises_to_all() -> None:
    assert distribution([3.0, 1.0, 2.0, 4.0]) == [(1, 25), (2, 50), (3, 75), (4, 100), (4, 100)]
    line = distribution([float(number) for number in range(1001)])
    assert len(line) <= 205 and line[-1] == (1000, 100)


def test_an_open_interval_stays_within_the_forest() -> None:
    rows = [Row("a", 1.5, 0.0, math.inf, (0.0, math.inf), "unknown"), Row("b", 0.8, 0.7, 0.9, (0.98, 1.02), "worse")]
    chart = parse(forest("t", rows, "x"))
    for shape in chart.iter("line"):
        assert 0 <= float(shape.attrib["x1"]) <= 850 and 0 <= float(shape.attrib["x2"]) <= 850
    assert "1.50 (one pair)" in "".join(chart.itertext())
