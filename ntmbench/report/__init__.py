"""The report: a folder of runs as one readable page, tables and figures. Never imports torch."""

from ntmbench.report.page import write_report

__all__ = ["write_report"]
