"""A batch of environments for Stable-Baselines3, which takes one environment at a time or vectors of its own kind.

envs = gymnasium.make_vec("jinn/World-v0", num_envs=16, world="platforms", autoreset_mode="SameStep")
agent = stable_baselines3.PPO("CnnPolicy", BatchVecEnv(envs))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from jinn.contracts import JinnError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError:
    raise JinnError("this needs Stable-Baselines3: pip install stable-baselines3") from None


class BatchVecEnv(VecEnv):
    """A Gymnasium vector environment in the form of Stable-Baselines3; `VecEnv.seed` and `set_options` are for all.

    Args:
        envs: of the mode SAME_STEP, such as `jinn.env.WorldVectorEnv(..., autoreset_mode="SameStep")`.

    Raises:
        JinnError: the environments have another mode.
    """

    def __init__(self, envs: Any) -> None:
        if envs.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
            raise JinnError('make the environments with autoreset_mode="SameStep" for Stable-Baselines3')
        self.envs, self.actions = envs, np.zeros(0)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Start all episodes: observations ``BHWC``."""
        frames_BHWC, _ = self.envs.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        return frames_BHWC

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One step: observations, rewards, whether the episode is over, and infos."""
        frames_BHWC, rewards_B, terminated_B, truncated_B, info = self.envs.step(self.actions)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(x)} for x in truncated_B & ~terminated_B]
        over_B = terminated_B | truncated_B
        for row in np.flatnonzero(over_B):
            infos[row]["terminal_observation"] = info["final_obs"][row]
        return frames_BHWC, rewards_B, over_B, infos

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The present frames."""
        return self.envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the batch, once for each index."""
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        if indices is not None:
            raise JinnError("the environments are one batch: set an attribute of all of them")
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not possible: no environment of the batch has methods of its own."""
        raise JinnError(f"the environments are one batch: call {method_name} of the batch itself")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No environment of a batch is wrapped by itself."""
        return [False] * len(list(self._get_indices(indices)))
