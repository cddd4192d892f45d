"""What an upgrade from the last version of the chart changes. helm/previous/VERSION/ holds what a version rendered of each
example. The version of today has to be there and to be what is rendered: whoever changes the chart raises its version
and blesses (`run.py --bless`). Against the version before, nothing may change that Kubernetes cannot change in place; and
what vanishes has to be said in helm/previous/README.md. 0.1.0 is the first: it has nothing before it."""

import shutil

import yaml

from lib import CHART, ROOT, Suite
from rendering import EXAMPLES, name_of, rendered

suite = Suite("upgrade")
PREVIOUS = ROOT / "helm/previous"


def chart_version():
    return yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]


def numbers(version):
    return tuple(int(part) for part in version.split("."))


def snapshot(version, example):
    path = PREVIOUS / version / f"{example}.yaml"
    return [it for it in yaml.safe_load_all(path.read_text()) if it] if path.is_file() else None


def frozen(it):
    """What Kubernetes refuses to change in an object that exists."""
    spec = it.get("spec", {})
    if it["kind"] in ("Deployment", "DaemonSet"):
        return {"selector": spec["selector"]}
    if it["kind"] == "StatefulSet":
        return {key: spec.get(key) for key in ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")}
    if it["kind"] == "Service":
        return {"clusterIP": spec.get("clusterIP")}
    return {}


def differences(before, after):
    """(what cannot be upgraded in place, what vanishes, what is new, what changes)."""
    old, new = ({name_of(it): it for it in objects} for objects in (before, after))
    refused = [
        f"{name}: {key} changes"
        for name in old.keys() & new.keys()
        for key, value in frozen(old[name]).items()
        if frozen(new[name]).get(key) != value
    ]
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    return sorted(refused), sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys()), changed


def bless():
    version = chart_version()
    where = PREVIOUS / version
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    for example in EXAMPLES:
        (where / example.name).write_text(yaml.safe_dump_all(rendered(example.stem), sort_keys=False, width=120))
    # One version before is enough to compare with.
    others = sorted((path for path in PREVIOUS.iterdir() if path.is_dir() and path != where), key=lambda p: numbers(p.name))
    for old in others[:-1]:
        shutil.rmtree(old)
    print(f"wrote {where}")


@suite.case
def this_version_renders_what_it_did():
    version = chart_version()
    for example in EXAMPLES:
        old = snapshot(version, example.stem)
        assert old is not None, f"no helm/previous/{version}/{example.name}: run tests/deploy/run.py --bless"
        refused, gone, new, changed = differences(old, rendered(example.stem))
        moved = refused + gone + new + changed
        assert not moved, f"{example.stem} renders otherwise, yet the version is still {version}: {', '.join(moved)}"


@suite.case
def an_upgrade_changes_nothing_in_place_that_cannot_be():
    version = chart_version()
    before = sorted((path.name for path in PREVIOUS.iterdir() if path.is_dir()), key=numbers)
    before = [other for other in before if numbers(other) < numbers(version)]
    if not before:
        return f"{version} is the first version"
    said = (PREVIOUS / "README.md").read_text()
    for example in EXAMPLES:
        old = snapshot(before[-1], example.stem)
        if old is None:
            continue
        refused, gone, new, changed = differences(old, rendered(example.stem))
        assert not refused, f"{example.stem}: {'; '.join(refused)}"
        unsaid = [name for name in gone if name not in said]
        assert not unsaid, f"{example.stem}: {', '.join(unsaid)} vanishes, which helm/previous/README.md does not say"
        print(f"         {example.stem}: {len(changed)} changed, {len(new)} new, {len(gone)} gone")
    return f"from {before[-1]}"


@suite.case
def what_cannot_be_upgraded_is_seen():
    import copy

    before = rendered("spot-pool")
    after = copy.deepcopy(before)
    for it in after:
        if it["kind"] == "StatefulSet":
            it["spec"]["serviceName"] = "other"
        if it["kind"] == "Deployment":
            it["spec"]["selector"]["matchLabels"]["more"] = "x"
    gone = after.pop(0)
    refused, vanished, _, _ = differences(before, after)
    assert vanished == [name_of(gone)]
    assert sum("selector changes" in line for line in refused) >= 3 and any("serviceName" in line for line in refused)


if __name__ == "__main__":
    from lib import main

    main(suite)
