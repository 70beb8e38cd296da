"""Query logs as something to learn from: read once, kept on disk as tokens and as the teacher's outputs.

A log may be larger than memory. It is streamed, texts that occur twice or are held out are dropped, and what is left
lies in files that training reads a batch at a time. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.data.characters import text_key
from octavo.data.logs import Distinct, LogReader
from octavo.distill.trainer import Material as TrainingMaterial
from octavo.encoder.running import run_to_file
from octavo.progress import Progress
from octavo.tasks.base import Groups, Task
from octavo.text.batch import TokenBatch
from octavo.text.spool import spool
from octavo.types import Input, Outputs, Pair, Words
