"""The chart rendered, as objects."""

import functools

import helm_python
import yaml

from lib import CHART

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


def values_of(example):
    return yaml.safe_load((CHART / f"examples/{example}.yaml").read_text())


def merged(base, more):
    """`more` over `base`, as Helm does it."""
    out = dict(base)
    for key, value in more.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def texts(values, name="season", namespace="video"):
    """Rendered templates by path. Raises what Helm says."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(chart.merge_values(values))
        return chart.render(values=values, name=name, namespace=namespace)


def objects_of(texts):
    """All objects of rendered templates, in the order of paths."""
    manifests = (text for path, text in sorted(texts.items()) if path.endswith(".yaml"))
    return [it for text in manifests for it in yaml.safe_load_all(text) if it]


@functools.cache
def rendered(example):
    return objects_of(texts(values_of(example)))


def name_of(it):
    return f"{it['kind']}/{it['metadata']['name']}"


def pods(objects):
    """(object, pod template) of everything that runs."""
    for it in objects:
        if it["kind"] in ("Deployment", "DaemonSet", "StatefulSet"):
            yield it, it["spec"]["template"]
        elif it["kind"] == "Pod":
            yield it, it


def only(objects, kind, ending=""):
    found = [it for it in objects if it["kind"] == kind and it["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, f"{len(found)} of {kind} …{ending}"
    return found[0]
