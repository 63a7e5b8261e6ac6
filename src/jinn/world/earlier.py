"""Worlds written before the models were split into the paper's and our own: their configs and weights converted.

The built-in world is one of them. Delete this file when it is trained anew.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from jinn.contracts import JinnError

# Parameters by their earlier and their present names; the first match counts.
RENAMED = {
    "encoder_place_ND": "encoder_position_ND",
    "decoder_place_ND": "decoder_position_ND",
    "latent_actions.to_attention.": "latent_actions.pooling.to_score.",
    "latent_actions.to_latent.": "latent_actions.pooling.to_latent.",
    "dynamics.place_ND": "dynamics.position_ND",
    "dynamics.surroundings.codes.": "dynamics.previous_frame.token_embed.",
    "dynamics.surroundings.spread.": "dynamics.previous_frame.expand.",
    "dynamics.surroundings.gate.": "dynamics.previous_frame.gate.",
    "dynamics.surroundings.gather.": "dynamics.previous_frame.project.",
    "dynamics.code_logits.": "dynamics.digits.to_logits.",
}
# Statistics that nothing reads any more, and a bias that its softmax never saw.
DROPPED = ("quantizer.usage_K", "latent_actions.to_attention.bias")


def convert_config(values: Any) -> Any:
    """The config.json of an earlier world with today's keys; any other is returned as it is."""
    if not isinstance(values, dict) or "factored" not in (values.get("dynamics") or {}):
        return values
    dynamics, actions = dict(values["dynamics"]), dict(values["latent_actions"])
    if not dynamics["factored"]:
        raise JinnError(
            "this world was written by an earlier jinn, and its tokens are of another kind: train again"
        )
    kept = {"transformer": dynamics["transformer"]}
    if dynamics["previous_frame"]:
        kept |= {
            "clean_frames": dynamics["clean_frames"],
            "doubt": 0.0,
            "keep_first": False,
            "digit_hidden": 0,
        }
    pairs, _ = actions.pop("pairs"), actions.pop("predict_change")
    search_radius, downsample, noise = (actions.pop(key) for key in ("reach", "shrink", "latent_noise"))
    if pairs:
        actions |= {"search_radius": search_radius, "downsample": downsample, "latent_noise": noise}
    actions["quantizer"] = {key: actions["quantizer"][key] for key in ("codes", "dim")}
    sampling = {**values["sampling"], "schedule": "cosine", "random_tokens": 0, "doubt": 0.0}
    return {**values, "dynamics": kept, "latent_actions": actions, "sampling": sampling}


def convert_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an earlier world under today's names; any other are returned as they are."""
    converted = {}
    for name, tensor in weights.items():
        if not name.endswith(DROPPED):
            old = next((old for old in RENAMED if old in name), None)
            converted[name.replace(old, RENAMED[old]) if old else name] = tensor
    return converted
