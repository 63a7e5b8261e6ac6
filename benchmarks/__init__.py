"""Benchmarks: the speed of jinn in training and in play, by method of computing. Run them by ``make bench``.

Every number is a ratio or a median of interleaved repeats within one run; the results lie in
``benchmarks/results`` as JSON, and ``docs/benchmarks.md`` is generated from them by `benchmarks.report`.
"""
