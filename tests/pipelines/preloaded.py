"""Imports what commands need: the server in running.py, which forks a process for each command, imports it once."""
# ruff: noqa: F401

import gc

import kedro.framework.cli.cli
import kedro.framework.cli.project
import kedro.framework.context
import kedro_viz.integrations.kedro.hooks  # type: ignore[import-untyped]
import mlflow

import adapt_infinity.benchmarks.answering
import adapt_infinity.cli.data
import adapt_infinity.cli.export
import adapt_infinity.cli.lifelong
import adapt_infinity.cli.pool
import adapt_infinity.cli.study
import adapt_infinity.features.probe
import adapt_infinity.hooks
import adapt_infinity.pipeline_registry
import adapt_infinity.pseudo_skills.finding
import adapt_infinity.reporting.results
import adapt_infinity.subset.selecting
import adapt_infinity.training.round

gc.collect()
gc.freeze()  # the garbage collector of a command need not visit any of this
