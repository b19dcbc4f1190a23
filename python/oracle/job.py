"""A job: weights, configuration and tokens in; one safetensors file out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import tensorfile
from .config import Config, from_json, is_state
from .errors import InputError
from .model import FAULTS, Model
from .routing import Noise
from .training import Training, router_means, train

TYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Job:
    """The keys of a job; ``python3 -m oracle --help`` says what they mean."""

    name: str
    config: Config
    weights: str
    tokens: list[Any]
    out: str
    dtype: str = "float64"
    end_token: int | None = None
    choices: str | None = None
    noise: dict[str, Any] | None = None
    training: Training | None = None
    nudge: int | None = None
    inject: str | None = None


def parse(where: str, value: Any) -> Job:
    """Build a job from JSON; config, tokens, noise and training may be paths of JSON files."""
    if not isinstance(value, dict):
        raise InputError(where, value, "is not an object", "see python3 -m oracle --help")
    known = set(Job.__dataclass_fields__)
    for key in value:
        if key not in known:
            raise InputError(where, key, "is not a known key", "known: " + ", ".join(sorted(known)))
    for key in ("config", "weights", "tokens", "out"):
        if not value.get(key):
            raise InputError(f"{where}.{key}", None, "is missing", "give it")
    value = {key: load(v) if key in ("config", "tokens", "noise", "training") and isinstance(v, str) else v for key, v in value.items()}
    value.setdefault("name", Path(value["out"]).stem)
    value["config"] = from_json(Config, f"{where}.config", value["config"])
    value["config"].check(f"{where}.config")
    if value.get("training") is not None:
        value["training"] = from_json(Training, f"{where}.training", value["training"])
        value["training"].check(f"{where}.training")
    for key, allowed in (("dtype", tuple(TYPES)), ("inject", FAULTS)):
        if value.get(key) is not None and value[key] not in allowed:
            raise InputError(f"{where}.{key}", value[key], "is not known", "choose " + " or ".join(allowed))
    return Job(**value)


def load(path: str) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(Path(path).read_text())
    except OSError as err:
        raise InputError(path, None, f"cannot be read ({err.strerror})", "give the path of a JSON file") from err
    except ValueError as err:
        raise InputError(path, None, f"is not JSON ({err})", "correct it") from err


def run(job: Job) -> float | None:
    """Run a job, write its file and give the share of tokens that would choose other experts than were imposed."""
    model = Model(job.config, read_weights(job), () if job.inject is None else (job.inject,))
    tokens = read_tokens(job)
    imposed, noise = read_choices(job, tokens), read_noise(job)
    if job.training is not None:
        result = train(model, job.training, tokens, job.end_token, imposed)
    else:
        result = single(model, tokens, job.end_token, imposed, noise)
    share = otherwise(result) if imposed is not None else None
    result = {name: value for name, value in result.items() if not name.startswith("own.")}
    tensorfile.write(job.out, {name: as_array(value) for name, value in result.items()})
    return share


def single(
    model: Model, tokens: Tensor, end_token: int | None, imposed: dict[int, Tensor] | None, noise: Noise | None
) -> dict[str, Tensor]:
    """One pass over tokens [B, T+1]: losses, gradients of their sum, and every intermediate tensor."""
    p = model.forward(tokens, end_token, imposed, noise)
    p.total(model.c).backward()
    result = {"loss": p.losses.sum(), "targets": p.targets.sum(), **router_means(p)}
    for layer, r in p.routed.items():
        result[f"choices.{layer}"], result[f"own.{layer}"] = r.choice, r.own
    result.update({"grad." + name: w.grad for name, w in model.trained.items()})
    result.update({"value." + name: value for name, value in p.values.items()})
    result.update({"value.positions": p.documents.position, "value.counts": p.documents.counts.long()})
    return result


def otherwise(result: dict[str, Tensor]) -> float:
    """The share of tokens, over all layers, whose own choice is another set of experts."""
    differs = [
        (value.sort(-1).values != result[name.replace("own.", "choices.")].sort(-1).values).any(-1).flatten()
        for name, value in result.items()
        if name.startswith("own.")
    ]
    return torch.cat(differs).double().mean().item() if differs else 0.0


def read_weights(job: Job) -> dict[str, Tensor]:
    """The weights of a job, moved by one unit in the last place of fp32 if it says so."""
    arrays = tensorfile.read(job.weights)
    if job.nudge is not None:
        draw = np.random.RandomState(job.nudge)
        for name in sorted(arrays):
            if not is_state(name):
                w = arrays[name].astype(np.float32)
                arrays[name] = np.nextafter(w, np.where(draw.randint(2, size=w.shape) == 1, np.float32(np.inf), np.float32(-np.inf)))
    return {name: torch.from_numpy(array.astype(job.dtype)) for name, array in arrays.items()}


def read_tokens(job: Job) -> Tensor:
    """Token numbers [B, T+1], or [N, B, T+1] for training."""
    try:
        tokens = torch.tensor(job.tokens, dtype=torch.long)
    except (TypeError, ValueError) as err:
        raise InputError(f"{job.name}.tokens", None, f"is not a table of numbers ({err})", "give lists of equal length") from err
    wanted = 3 if job.training is not None else 2
    if tokens.dim() != wanted or tokens.shape[-1] < 2:
        raise InputError(
            f"{job.name}.tokens",
            list(tokens.shape),
            "is not the right shape",
            "give " + ("[batches][rows][T+1]" if wanted == 3 else "[rows][T+1]"),
        )
    if tokens.min() < 0 or tokens.max() >= job.config.vocab:
        raise InputError(
            f"{job.name}.tokens",
            [int(tokens.min()), int(tokens.max())],
            "reaches outside the vocabulary",
            f"use 0 to {job.config.vocab - 1}",
        )
    return tokens


def read_choices(job: Job, tokens: Tensor) -> dict[int, Tensor] | None:
    """Choices to impose, [B, T, K] or [steps, B, T, K] by layer, from a file that an earlier job wrote."""
    if job.choices is None:
        return None
    prefix = "choices."
    found = {
        int(name[len(prefix) :]): torch.from_numpy(array.astype(np.int64))
        for name, array in tensorfile.read(job.choices).items()
        if name.startswith(prefix)
    }
    if len(found) != job.config.layers - job.config.dense_layers:
        raise InputError(
            f"{job.name}.choices",
            job.choices,
            f"has choices of {len(found)} layers",
            f"give them for all {job.config.layers - job.config.dense_layers} layers with experts",
        )
    rows, width = tokens.shape[-2:]
    wanted: tuple[int, ...] = (rows, width - 1, job.config.top_k)
    if job.training is not None:
        wanted = (job.training.steps, *wanted)
    for layer, choice in found.items():
        if tuple(choice.shape) != wanted:
            raise InputError(
                f"{job.name}.choices", job.choices, f"has shape {list(choice.shape)} for layer {layer}", f"give {list(wanted)}"
            )
    return found


def read_noise(job: Job) -> Noise | None:
    """The noise of a routing warm-up: {"alpha": 0.5, "eps": {"LAYER": [rows][T][experts]}}."""
    if job.noise is None:
        return None
    if not job.config.routing_warmup_tokens or job.training is not None:
        raise InputError(f"{job.name}.noise", None, "belongs to one pass of a model with a routing warm-up", "leave it out")
    try:
        eps = {int(layer): torch.tensor(values, dtype=TYPES[job.dtype]) for layer, values in job.noise["eps"].items()}
        return Noise(float(job.noise["alpha"]), eps)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise InputError(f"{job.name}.noise", None, f"is not usable ({err})", "give alpha and eps by layer") from err


def as_array(value: Tensor) -> np.ndarray:
    """A tensor as it is written: choices and counts as int64, the rest in its own type."""
    return value.detach().contiguous().numpy()
