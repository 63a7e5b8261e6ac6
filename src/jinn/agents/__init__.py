"""Agents: they act in the real game and in the dream through one interface, Gymnasium's.

`network` is what they see and act with, `ppo` learns from rewards, `play` counts how often a policy succeeds.
Nothing here knows what a world or a model is.
"""
