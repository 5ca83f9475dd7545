"""Loads models by vLLM's own classes, in a process of its own: one request a line on stdin, one answer a line on stdout.

vLLM's compiled parts are not there, so that no model can run; its CPU platform is chosen by hand.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import sentry
import sentry.vllm
import torch
import vllm.platforms
from safetensors.torch import save_file
from vllm.platforms.cpu import CpuPlatform

vllm.platforms._current_platform = CpuPlatform()

from vllm.config import DeviceConfig, LoadConfig, LoRAConfig, ModelConfig, VllmConfig, set_current_vllm_config  # noqa: E402
from vllm.distributed import init_distributed_environment, initialize_model_parallel  # noqa: E402
from vllm.model_executor import model_loader  # noqa: E402
from vllm.model_executor.model_loader import BaseModelLoader, get_model_loader  # noqa: E402

Request = dict[str, Any]


def load(request: Request, made: list[torch.nn.Module]) -> torch.nn.Module:
    """Load a model as a worker of vLLM does."""
    folder = Path(request["model"])
    signed = (folder / "config.json").read_bytes()
    if "config_at_first" in request:
        (folder / "config.json").write_text(request["config_at_first"])
    model_config = ModelConfig(model=str(folder), dtype="float32", **request.get("model_config", {}))
    if "config_at_first" in request:
        (folder / "config.json").write_bytes(signed)
    load_config = LoadConfig(load_format="sentry", model_loader_extra_config=request["extra"], **request.get("load_config", {}))
    whole = VllmConfig(model_config=model_config, load_config=load_config, device_config=DeviceConfig("cpu"))
    for name, value in request.get("changed", {}).items():
        setattr(model_config, name, value)
    if request.get("overrides_by_function"):
        model_config.hf_overrides = lambda config: config
    if request.get("lora"):
        whole.lora_config = LoRAConfig()
    if request.get("draft_format"):
        whole.speculative_config = type("Draft", (), {"draft_load_config": LoadConfig(load_format=request["draft_format"])})()
    sentry.vllm._LARGEST_BUFFER = request.get("largest_buffer", 1 << 29)
    loader = get_model_loader(load_config)

    def create_model(**arguments: Any) -> torch.nn.Module:
        # What stands in for it says no more than how its weights would be loaded.
        whole.speculative_config = None
        model = BaseModelLoader.create_model(loader, **arguments)
        for parameter in model.parameters():
            # What lies in memory that is loaded to.
            parameter.data.fill_(7)
        for name, value in request.get("attributes", {}).items():
            setattr(model, name, value)
        if request.get("says_nothing"):
            loads = model.load_weights
            model.load_weights = lambda weights: loads(weights) and None
        made.append(model)
        return model

    loader.create_model = create_model
    with set_current_vllm_config(whole):
        if not torch.distributed.is_initialized():
            init_distributed_environment(1, 0, Path(request["rendezvous"]).as_uri(), 0, "gloo")
            initialize_model_parallel()
        return loader.load_model(vllm_config=whole, model_config=model_config)


def answer(request: Request) -> Request:
    """Load a model, and say what came of it."""
    made: list[torch.nn.Module] = []
    said.clear()
    try:
        model = load(request, made)
    except sentry.Error as error:
        kinds = [(difference.kind, difference.tensor or difference.file) for difference in getattr(error, "differences", ())]
        outcome = {"error": type(error).__name__, "code": error.code, "message": str(error), "differences": kinds}
    except Exception as error:
        # Of vLLM itself.
        outcome = {"error": type(error).__name__, "code": None, "message": str(error), "differences": []}
    else:
        save_file({name: tensor.detach().clone() for name, tensor in model.named_parameters()}, request["save"])
        outcome = {"error": None}
    outcome |= {"built": len(made), "nonzero": sum(int(tensor.count_nonzero()) for model in made for tensor in model.parameters())}
    return outcome | {"said": list(said)}


class Said(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        said.append(record.getMessage())


said: list[str] = []
answers = os.fdopen(os.dup(1), "w")
# vLLM writes there too.
os.dup2(2, 1)
logging.getLogger("vllm").addHandler(Said())
logging.getLogger("vllm").setLevel(logging.INFO)
sentry.vllm.register()
sentry.vllm.register()
registered = [name for name in model_loader._LOAD_FORMAT_TO_MODEL_LOADER if name == "sentry"]
print(json.dumps({"registered": registered, "said": said}), file=answers, flush=True)
for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
        reply = answer(json.loads(line))
    print(json.dumps(reply), file=answers, flush=True)
