"""Rounds in MLflow: a stream is a parent run, a round its child, and the parent's metrics over steps are the forgetting curves.

The only file that knows MLflow. It talks to a store named by an explicit URI, through `MlflowClient`: no active
run, no global tracking URI, so it works from any thread and goes on in another process the next day.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from adapt_infinity.measures import as_matrix
from adapt_infinity.report import RoundSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
