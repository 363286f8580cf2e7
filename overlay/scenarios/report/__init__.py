"""The report of a run: pages and tables that show what was found next to everything that could have made it up.

In goes a result, as `overlay run --json` prints it; out come one HTML page for a script, one for several scripts,
and tables as CSV. A page needs no network and holds no script; its plots are inline SVG whose text stays text.
Nothing here computes what a verdict could rest on: numbers are shown as the result gives them.
"""

from overlay.scenarios.report.overview import write_overview
from overlay.scenarios.report.page import write_report
from overlay.scenarios.report.tables import write_tables

__all__ = ["write_overview", "write_report", "write_tables"]
