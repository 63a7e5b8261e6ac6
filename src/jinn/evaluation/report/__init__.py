"""The report: the results of an evaluation, as JSON and as one HTML page without other files.

`page` puts the sections together: film strips (`films`), curves (`curves`), and the action legend and all estimates
(`tables`). Each is a function from results to a string, which is empty if there is nothing to show. `charts` makes
SVG, `parts` HTML and numbers, and `jinn.evaluation.catalogue` has the words. The template, the style and the script
of the page are in ``static/``; without the script, film strips show their first frame.
"""

from jinn.evaluation.report.page import write_report

__all__ = ["write_report"]
