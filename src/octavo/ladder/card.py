"""The model card: `README.md` of a release."""

from __future__ import annotations

from octavo.certify.certificate import Certificate
from octavo.certify.wording import interval_points, signed_points
from octavo.recipe import Recipe


def model_card(recipe: Recipe, certificate: Certificate) -> str:
    """Return Markdown that says what the release is, what was proved, and how to use it."""
    teacher, engine, difference = certificate.teacher, certificate.engine, certificate.difference
    return f"""# {certificate.model} {certificate.version} ({certificate.rung})

Task `{certificate.task}`; engine `{certificate.engine_id}`; made from the teacher `{recipe.teacher.name}` by Octavo.

**Verdict: {certificate.verdict}.** {certificate.reason}

| | {certificate.metric} | 95% interval |
|---|---|---|
| teacher | {100 * teacher.value:.2f} | {100 * teacher.low:.2f} to {100 * teacher.high:.2f} |
| this release | {100 * engine.value:.2f} | {100 * engine.low:.2f} to {100 * engine.high:.2f} |
| difference | {signed_points(difference.value)} | {interval_points(difference)} |

Measured on {certificate.rows:,} held-out rows, margin {100 * certificate.margin:g} points, on
{certificate.hardware.cpu} ({certificate.hardware.logical_cores} cores). `report.html` tells the rest;
`certificate.json` is the same for programs.

```python
import octavo

with octavo.load("{recipe.store.name}/{certificate.model}/{certificate.version}") as model:
    print(model.predict(["a query"])[0].label)
```
"""
