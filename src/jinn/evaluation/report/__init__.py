"""The report: what an evaluation found, as JSON and as one HTML page that needs nothing but itself.

`page` puts the sections together: film strips (`films`), the action legend (`legend`), curves (`curves`) and
tables (`tables`), each a function of the results that gives a string, empty where there is nothing to show.
`charts` draws, `glossary` has the words and the units. The style and the script in ``static/`` are put into
the page; without the script, film strips show their first frame.
"""

from jinn.evaluation.report.charts import arrow_svg
from jinn.evaluation.report.page import write_report

__all__ = ["arrow_svg", "write_report"]
