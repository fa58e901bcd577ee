"""Writes Grafana's JSON of the dashboard to standard output: `python deploy/dashboard/make.py > FILE`."""

import json
from collections.abc import Iterator
from typing import Any

from panels import ROWS, Panel, Query

COLUMNS, WIDTH, HEIGHT = 3, 8, 7
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLOURS = ("green", "orange", "red")
SERVERS = '{__name__=~"xuanyuan_draining|vllm:num_requests_running"'


def dashboard() -> dict[str, Any]:
    """The whole dashboard, in the model of Grafana 11."""
    return {
        "uid": "xuanyuan-serving",
        "title": "XuanYuan Serving",
        "description": "Is it up, is it fast, is it full, who uses it, is the template attacked",
        "tags": ["xuanyuan", "vllm"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(variables())},
        "annotations": {"list": []},
        "panels": list(panels()),
    }


def variables() -> Iterator[dict[str, Any]]:
    """The data source, and which servers to look at. A single box has no namespace, which `.*` matches too."""
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    yield choice("namespace", "Namespace", f"label_values({SERVERS}}}, namespace)")
    yield choice("job", "Job", f'label_values({SERVERS}, namespace=~"$namespace"}}, job)')


def choice(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable of which one, several or all values can be chosen."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def panels() -> Iterator[dict[str, Any]]:
    """Every row's heading and its panels, one below the other."""
    number, top = 1, 0
    for title, members in ROWS:
        place = {"x": 0, "y": top, "w": COLUMNS * WIDTH, "h": 1}
        yield {"type": "row", "id": number, "title": title, "collapsed": False, "gridPos": place, "panels": []}
        number, top = number + 1, top + 1
        for index, panel in enumerate(members):
            x, y = index % COLUMNS * WIDTH, top + index // COLUMNS * HEIGHT
            yield drawn(panel, number, {"x": x, "y": y, "w": WIDTH, "h": HEIGHT})
            number += 1
        top += -(-len(members) // COLUMNS) * HEIGHT


def drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """One panel."""
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [target(query, "ABCDEF"[index]) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": field(panel), "overrides": []},
        "options": options(panel),
    }


def target(query: Query, letter: str) -> dict[str, Any]:
    """One query."""
    kind = {"instant": True, "range": False} if query.instant else {"range": True, "instant": False}
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        **kind,
    }


def field(panel: Panel) -> dict[str, Any]:
    """Unit, axis and colours."""
    steps = [{"color": COLOURS[0], "value": None}]
    steps += [{"color": colour, "value": limit} for colour, limit in zip(COLOURS[1:], panel.limits, strict=False)]
    shown: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.most is not None:
        shown["max"] = panel.most
    if panel.kind == "timeseries":
        shown["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    return shown


def options(panel: Panel) -> dict[str, Any]:
    """What each kind of panel needs besides."""
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "stat":
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": "value"}
    return {"reduceOptions": reduce, "displayMode": "basic", "orientation": "horizontal"}


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
