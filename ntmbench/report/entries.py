"""What competes in the report: runs of one task, model label and configuration are one entry."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pandas as pd

from ntmbench.results import Results

ENTRY_KEYS = ["task", "model", "config_id"]


def with_entries(results: Results) -> Results:
    """`results` with a column `entry` in every table.

    An entry bears its model's label. Where runs of one task and label differ in configuration they
    are `ntm #1`, `ntm #2`: seeds of different settings are never averaged. A smoke run says so.
    Runs stand in the order of their tasks' sources, so that those of a paper are in its order.
    """
    results = dataclasses.replace(results, runs=_in_order(results))
    names = _names(results.runs)

    def named(table: pd.DataFrame) -> pd.DataFrame:
        entry = table[ENTRY_KEYS].merge(names, on=ENTRY_KEYS, how="left")["entry"]
        table = table.copy()
        table.insert(table.columns.get_loc("model") + 1, "entry", entry.to_numpy())  # type: ignore
        return table

    return dataclasses.replace(
        results,
        runs=named(results.runs),
        curves=named(results.curves),
        lengths=named(results.lengths),
        positions=named(results.positions),
        memory=named(results.memory),
        evals=named(results.evals),
    )


def _in_order(results: Results) -> pd.DataFrame:
    """The runs in order of their tasks' sources, then of the tasks' names; else as they were."""
    runs = results.runs
    configs = (results.examples[config_id].task for config_id in runs["config_id"])
    first: dict[str, tuple[str, str]] = {}
    for task in configs:
        first.setdefault(task.name, (task.source, task.name))
    order = sorted(range(len(runs)), key=lambda i: first[runs["task"].iloc[i]])
    return runs.iloc[order].reset_index(drop=True)


def _names(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an entry, with its name; numbered in the order of first seeds."""
    first = runs.drop_duplicates(ENTRY_KEYS)
    twins = first.groupby(["task", "model"])["config_id"].transform("size") > 1
    number = first.groupby(["task", "model"]).cumcount() + 1
    names = [
        model
        + (f" #{k}" if twin else "")
        + (" (smoke)" if profile == "smoke" and not model.endswith("@smoke") else "")
        for model, k, twin, profile in zip(
            first["model"], number, twins, first["profile"], strict=True
        )
    ]
    return first[ENTRY_KEYS].assign(entry=pd.Series(names, index=first.index, dtype=str))


def differences(results: Results, task: str) -> list[tuple[str, dict[str, str]]]:
    """The configuration keys in which entries of one model differ, each with its value by entry.

    Entries of one model are those whose label is equal but for the tag. A key is `section.key`;
    a value is as JSON, or `not set`.
    """
    runs = results.runs[results.runs["task"] == task].drop_duplicates("entry")
    found: list[tuple[str, dict[str, str]]] = []
    for _, group in runs.groupby(runs["model"].str.partition("@")[0], sort=True):
        flat = {
            row["entry"]: _flatten(results.configs[row["config_id"]])
            for row in group.to_dict("records")
        }
        for key in dict.fromkeys(key for entry in flat.values() for key in entry):
            values = {entry: config.get(key, "not set") for entry, config in flat.items()}
            if len(set(values.values())) > 1:
                found.append((key, values))
    return found


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, sort_keys=True)
    return flat
