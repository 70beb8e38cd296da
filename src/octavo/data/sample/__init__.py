"""The embedded sample: real texts and a real encoder for each task, without any download.

    intent   which tool answers this request?      tldr pages, 33 tools                 (written by people)
    search   which command page answers it?        tldr pages, a BEIR folder            (written by people)
    slots    what does this command name?          Home Assistant's sentence templates  (templates)

All of it comes from packages of the extra `demo`. They are located as files and never imported.
"""

from octavo.data.sample.intent import FAMILIES, Sample, sample_queries, write_sample
from octavo.data.sample.packages import sample_encoder
from octavo.data.sample.search import SearchSample, search_sample, write_search
from octavo.data.sample.slots import SlotSample, slot_sample, write_slots

__all__ = [
    "FAMILIES",
    "Sample",
    "SearchSample",
    "SlotSample",
    "sample_encoder",
    "sample_queries",
    "search_sample",
    "slot_sample",
    "write_sample",
    "write_search",
    "write_slots",
]
