"""What clients may say of inputs that are longer than a model reads: fields that several dialects share."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from octavo.serve.refusals import BadRequest

# `truncate` of Text Embeddings Inference; None is for what `/info` says under `auto_truncate`, which is true.
Truncate = Annotated[bool, Meta(description="Cut what is too long; with false it is refused (413).")] | None
Cut = Annotated[Literal["left", "Left", "right", "Right"], Meta(description="Only `right`.")] | None


def check_cut(direction: Cut) -> None:
    """Refuse to cut at another end than a model was trained with. Raises BadRequest."""
    if direction is not None and direction.lower() != "right":
        raise BadRequest(
            f"truncation_direction is '{direction}', and a model's texts are cut where they were in its training. "
            "Leave it out."
        )
