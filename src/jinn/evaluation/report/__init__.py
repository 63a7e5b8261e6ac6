"""The report: the results of an evaluation, as JSON and as one HTML page without other files.

`page` puts the sections together: film strips (`films`), the action legend (`legend`), curves (`curves`) and
tables (`tables`). Each is a function from results to a string, which is empty if there is nothing to show.
`charts` makes SVG, `parts` HTML and numbers, and `jinn.evaluation.catalogue` has the words. The style and the
script in ``static/`` are put into the page; without the script, film strips show their first frame.
"""

from jinn.evaluation.report.charts import arrow_svg
from jinn.evaluation.report.page import write_report

__all__ = ["arrow_svg", "write_report"]
