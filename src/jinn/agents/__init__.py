"""Agents: they act in the real game and in a learned environment through one interface, Gymnasium's.

`network` is an agent's network, `ppo` learns from rewards, `clone` from videos, `plan` looks ahead, `play` measures a
policy, `baselines` are the policies to compare with, and Stable-Baselines3 takes a batch by `stable_baselines`. Nothing
here knows what a world or a model is.
"""
