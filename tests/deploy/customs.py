"""Schemas of the custom resources that the chart renders, as far as it uses them: kubernetes-validate knows only what comes
with Kubernetes. Written after the CRDs of prometheus-operator 0.86, KEDA 2.18 and External Secrets 1.0."""


def closed(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TEXT = {"type": "string", "minLength": 1}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
METADATA = {"type": "object"}


def kind(name, version, spec):
    return closed(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": version}, kind={"const": name},
                  metadata=METADATA, spec=spec)


RULE = closed(["alert", "expr"], alert=TEXT, expr=TEXT, labels=LABELS, annotations=LABELS, **{"for": DURATION})
TRIGGER = {
    "oneOf": [
        closed(["type", "metadata"], type={"const": "prometheus"}, metricType={"enum": ["AverageValue", "Value"]},
               metadata=closed(["serverAddress", "query", "threshold"], serverAddress=TEXT, query=TEXT, threshold=TEXT,
                               activationThreshold=TEXT, ignoreNullValues=TEXT, namespace=TEXT)),
        closed(["type", "metadata"], type={"const": "metrics-api"}, metricType={"enum": ["AverageValue", "Value"]},
               metadata=closed(["url", "valueLocation", "targetValue"], url=TEXT, valueLocation=TEXT, targetValue=TEXT,
                               activationTargetValue=TEXT, format={"enum": ["json", "prometheus", "xml", "yaml"]})),
    ]
}
COUNT = {"type": "integer", "minimum": 0}

KINDS = {
    "ServiceMonitor": kind("ServiceMonitor", "monitoring.coreos.com/v1", closed(
        ["selector", "endpoints"], selector=closed(["matchLabels"], matchLabels=LABELS),
        endpoints={"type": "array", "minItems": 1, "items": closed(["port"], port=TEXT, path=TEXT, interval=DURATION)})),
    "PrometheusRule": kind("PrometheusRule", "monitoring.coreos.com/v1", closed(
        ["groups"], groups={"type": "array", "items": closed(["name", "rules"], name=TEXT, rules={"type": "array", "items": RULE})})),
    "ScaledObject": kind("ScaledObject", "keda.sh/v1alpha1", closed(
        ["scaleTargetRef", "triggers"], scaleTargetRef=closed(["name"], name=TEXT), minReplicaCount=COUNT, maxReplicaCount=COUNT,
        pollingInterval=COUNT, cooldownPeriod=COUNT, fallback=closed(["failureThreshold", "replicas"], failureThreshold=COUNT,
                                                                    replicas=COUNT),
        triggers={"type": "array", "minItems": 1, "items": TRIGGER})),
    "ExternalSecret": kind("ExternalSecret", "external-secrets.io/v1", closed(
        ["secretStoreRef", "target"], refreshInterval=DURATION,
        secretStoreRef=closed(["name", "kind"], name=TEXT, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
        target=closed(["name"], name=TEXT, creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]}),
        dataFrom={"type": "array", "items": closed(["extract"], extract=closed(["key"], key=TEXT))})),
}
