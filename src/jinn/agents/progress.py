"""PPO with a progress bar and a log file, for scripts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jinn.agents.network import Network
from jinn.agents.ppo import PPOConfig, train_ppo


def train_with_progress(
    envs: Any, network: Network, config: PPOConfig, seed: int, device: str, folder: Path | str
) -> Network:
    """`train_ppo` with a bar on the terminal and one line of FOLDER/log.jsonl for each update."""
    from rich.progress import Progress

    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with Progress() as bar, (folder / "log.jsonl").open("a") as log:
        task = bar.add_task(folder.name, total=config.steps)

        def on_update(report: dict[str, float], _: Network) -> None:
            log.write(json.dumps({**report, "seconds": time.perf_counter() - started}) + "\n")
            log.flush()
            text = f"{folder.name}, return {report['return']:.2f}"
            bar.update(task, completed=report["steps"], description=text)

        return train_ppo(envs, config, seed, device, network, folder, on_update)
