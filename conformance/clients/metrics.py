"""The unmodified parser of `prometheus-client` reads the gateway's metrics.

Usage: metrics.py GATEWAY_URL OPERATOR_KEY NAME... Every NAME has to be there; exits 1 otherwise.
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

gateway, key, *names = sys.argv[1:]
request = urllib.request.Request(f"{gateway}/metrics", headers={"authorization": f"Bearer {key}"})
with urllib.request.urlopen(request, timeout=60) as answer:
    assert answer.headers["content-type"].startswith("application/openmetrics-text"), answer.headers["content-type"]
    text = answer.read().decode()
families = {family.name: family for family in openmetrics(text)}
missing = [name for name in names if name not in families]
print(f"{'FAILED' if missing else 'ok    '} {len(families)} families, missing {missing}")
undocumented = [name for name, family in families.items() if not family.documentation]
print(f"{'FAILED' if undocumented else 'ok    '} each says what it is {undocumented}")
served = sum(s.value for s in families["longrun_gateway_requests"].samples if s.labels.get("status") == "200")
print(f"{'ok    ' if served > 0 else 'FAILED'} {served:.0f} requests were counted")
sys.exit(bool(missing or undocumented or served <= 0))
