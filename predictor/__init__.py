"""Turns timings into predictors: latency as a function of the architecture."""
