"""The model card: `README.md` of a release."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.certify.certificate import Certificate
from octavo.certify.measures import MeasureRecord
from octavo.certify.wording import count, interval_points, metric_name, signed_points
from octavo.recipe import Recipe


def model_card(recipe: Recipe, certificate: Certificate, *, example: str = '"a query"') -> str:
    """Return Markdown that says what the release is, what was proved, and how to use it.

    Args:
        recipe: that the release was made by.
        certificate: of the release.
        example: one item to answer, as Python source.
    """
    teacher, engine, difference = certificate.teacher, certificate.engine, certificate.difference
    return f"""# {certificate.model} {certificate.version} ({certificate.rung})

Task `{certificate.task}`; engine `{certificate.engine_id}`; made from the teacher `{recipe.teacher.name}` by Octavo.

**Verdict: {certificate.verdict}.** {certificate.reason}

| | {metric_name(certificate.metric)} | 95% interval |
|---|---|---|
| teacher | {100 * teacher.value:.2f} | {100 * teacher.low:.2f} to {100 * teacher.high:.2f} |
| this release | {100 * engine.value:.2f} | {100 * engine.low:.2f} to {100 * engine.high:.2f} |
| difference | {signed_points(difference.value)} | {interval_points(difference)} |
{_others(certificate.measures[1:])}
Measured on {count(certificate.rows, f"held-out {certificate.unit}")}, margin {100 * certificate.margin:g} points, on
{certificate.hardware.cpu} ({certificate.hardware.logical_cores} cores). `report.html` tells the rest;
`certificate.json` is the same for programs.

```python
import octavo

with octavo.load("{recipe.store.name}/{certificate.model}/{certificate.version}") as model:
    print(model.predict([{example}])[0].line())
```
"""


def _others(measures: Sequence[MeasureRecord]) -> str:
    if not measures:
        return ""
    lines = [
        f"| {metric_name(m.name)} | {100 * m.teacher.value:.2f} | {100 * m.engine.value:.2f} "
        f"| {signed_points(m.difference.value)} {interval_points(m.difference)} | {m.verdict or 'reported'} |"
        for m in measures
    ]
    head = "\n| also measured | teacher | this release | difference | verdict |\n|---|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n"
