"""In what the entries of one model differ, and how each setting fared: a grid's own table."""

from __future__ import annotations

import pandas as pd

from ntmbench.report.entries import differences
from ntmbench.report.outcomes import standing
from ntmbench.report.tables import BEST, number_text, solved_text, time_text
from ntmbench.results import Results


def setting_tables(results: Results, task: str, summary: pd.DataFrame) -> list[list[list[str]]]:
    """A table a model with several configurations: a row an entry, a column a key that differs.

    With what came of each; the entry that stands best among all of the task says so.
    """
    by_model: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for key, values in differences(results, task):
        by_model.setdefault(tuple(values), {})[key] = values
    found = standing(results, task)
    rows_of = {row["entry"]: row for row in summary.to_dict("records")}
    tables = []
    for entries, keys in by_model.items():
        header = ["entry", *(f"`{key}`" for key in keys), "solved seeds"]
        rows = [[*header, "sequences to solve, median", "best validation loss, bits"]]
        for entry in entries:
            row = rows_of[entry]
            best = " (best of the task)" if found is not None and found.best == entry else ""
            time = time_text(row["median_sequences_to_solve"]) if row["finished"] else "-"
            cells = [entry + best, *(values[entry] for values in keys.values()), solved_text(row)]
            rows.append([*cells, time, number_text(row[BEST[0]], row["without_loss"])])
        tables.append(rows)
    return tables
