"""Pictures of a run as SVG: drawn from numbers alone, no script, no font, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from chaos.verdict import Picture, Scatter, Shares

WIDTH, HEIGHT = 760, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26
MOST_POINTS = 4000
GLYPH = 6.5  # about as wide as a letter of the page's type
Point = tuple[float, float, str]


def draw(picture: Picture) -> str:
    """The picture as an SVG element, coloured by the classes `s0` to `s5` of the page's style."""
    match picture:
        case Shares():
            return _shares(picture)
        case Scatter():
            return _scatter(picture)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    )
    return head + "".join(parts) + "</svg>"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _shares(picture: Shares) -> str:
    """A bar for each version's observed share, a whisker for its interval, a mark where the configured share lies."""
    row, left = 44, 110
    scale = WIDTH - left - 150
    parts = []
    for index, (name, configured, observed, (low, high)) in enumerate(picture.rows):
        y = index * row + 8
        middle = y + 11
        at = left + configured * scale
        parts += [
            _text(left - 10, y + 15, name, "end"),
            f'<rect class="rail" x="{left}" y="{y}" width="{scale}" height="22" rx="4"/>',
            f'<rect class="s{index % 6}" x="{left}" y="{y}" width="{observed * scale:.1f}" height="22" rx="4"/>',
            f'<path class="whisker" d="M{left + low * scale:.1f} {middle}H{left + high * scale:.1f}"/>',
            *(f'<path class="whisker" d="M{left + end * scale:.1f} {middle - 6}v12"/>' for end in (low, high)),
            f'<path class="target" d="M{at:.1f} {y - 4}v30"/>',
            _text(left + scale + 10, y + 15, f"{observed:.1%} of {configured:.0%}"),
        ]
    return _svg(len(picture.rows) * row + 4, picture.title, parts)


def _scatter(picture: Scatter) -> str:
    """One dot a request, over time; spans shaded and named."""
    points = _thinned(picture.points)
    times = [point[0] for point in points] + [edge for start, end, _ in picture.bands for edge in (start, end)]
    if not times:
        return ""
    first, span = min(times), max(max(times) - min(times), 0.001)
    highest = max([point[1] for point in points] or [1.0]) * 1.08 or 1.0
    series = {name: index for index, name in enumerate(dict.fromkeys(point[2] for point in points))}

    def x(at: float) -> float:
        return LEFT + (at - first) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    parts = [_band(x(start), x(end), label) for start, end, label in picture.bands]
    parts += _axes(highest, span, y)
    parts += [
        f'<circle class="s{series[name] % 6}" cx="{x(at):.1f}" cy="{y(ms):.1f}" r="2.6"/>' for at, ms, name in points
    ]
    return _svg(HEIGHT, picture.title, parts) + _legend(series)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most about MOST_POINTS, thinned series by series, so that one of few points (the failures) stays whole."""
    series: dict[str, list[Point]] = {}
    for point in points:
        series.setdefault(point[2], []).append(point)
    share = MOST_POINTS // max(len(series), 1) or 1
    return [point for each in series.values() for point in each[:: -(-len(each) // share)]]


def _band(left: float, right: float, label: str) -> str:
    size = f'width="{max(right - left, 1):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    shade = f'<rect class="band" x="{left:.1f}" y="{TOP}" {size}/>'
    edge = f'<path class="edge" d="M{left:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
    fits = left + 4 + len(label) * GLYPH < WIDTH - RIGHT
    name = _text(left + 4, TOP + 12, label) if fits else _text(left - 4, TOP + 12, label, "end")
    return shade + edge + name


def _axes(highest: float, span: float, place: Callable[[float], float]) -> list[str]:
    lines = []
    for share in (0.0, 0.5, 1.0):
        value = highest * share / 1.08
        lines.append(f'<path class="grid" d="M{LEFT} {place(value):.1f}H{WIDTH - RIGHT}"/>')
        lines.append(_text(LEFT - 6, place(value) + 4, f"{value:.0f} ms", "end"))
    lines.append(_text(LEFT, HEIGHT - 8, "0 s"))
    lines.append(_text(WIDTH - RIGHT, HEIGHT - 8, f"{span:.1f} s", "end"))
    return lines


def _legend(series: dict[str, int]) -> str:
    items = "".join(f'<li><i class="s{index % 6}"></i>{escape(name)}</li>' for name, index in series.items())
    return f'<ul class="legend">{items}</ul>'
