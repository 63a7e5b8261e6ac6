"""Benchmarks: how fast jinn trains and plays, and by which way of computing. Run them by ``make bench``.

Every figure is a ratio or a median of interleaved repeats within one run; the results lie in
``benchmarks/results`` as JSON, and ``docs/benchmarks.md`` is made of them by `benchmarks.report`.
"""
