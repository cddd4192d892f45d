"""Network policies, decided as Kubernetes does: a way is open if the one side may speak and the other may hear."""


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items())


class Side:
    """A pod of the release, or of another namespace (then only the namespace's labels count)."""

    def __init__(self, labels=None, namespace=None):
        self.labels, self.namespace = labels or {}, namespace


def _peer(rule_side, other):
    if "ipBlock" in rule_side:
        return False
    if "namespaceSelector" in rule_side:
        return other.namespace is not None and matches(rule_side["namespaceSelector"], other.namespace)
    return other.namespace is None and matches(rule_side.get("podSelector"), other.labels)


def _allowed(policies, pod, other, port, way, side):
    if pod.namespace is not None:
        return True
    mine = [it["spec"] for it in policies if matches(it["spec"]["podSelector"], pod.labels)]
    mine = [spec for spec in mine if way in spec["policyTypes"]]
    if not mine:
        return True
    return any(
        any(place["port"] == port for place in rule.get("ports", [{"port": port}]))
        and (side not in rule or any(_peer(peer, other) for peer in rule[side]))
        for spec in mine
        for rule in spec.get(way.lower(), [])
    )


def may(policies, source, target, port):
    return _allowed(policies, source, target, port, "Egress", "to") and _allowed(policies, target, source, port, "Ingress", "from")
