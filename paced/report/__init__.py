"""The report of a run, from ``run.json`` and artifacts alone: summary.json, report.html, a table for the terminal.

What belongs here reads and draws; nothing here computes a result that is not in an artifact. Imports no torch.
"""

from paced.report.record import read
from paced.report.summary import build, drawn, students, write_summary
from paced.report.tables import table

__all__ = ["build", "drawn", "read", "students", "table", "write_summary"]
