"""The load format ``sentry`` of vLLM: it serves a model only if the signature holds and every byte that was loaded is the signed one.

    vllm serve my-model --load-format sentry --model-loader-extra-config '{"public_key": "sentry.pub"}'

vLLM finds :func:`register` by itself where this package is installed.

Settings in ``model_loader_extra_config``, in which unknown ones are refused:

======================================================  =====================================================================
``public_key``, ``timestamp_roots``                     trust as by :class:`sentry.PublicKey`
``roots``, ``identity`` or ``any_identity``,            trust as by :class:`sentry.Certificate`
``timestamp_roots``
``policy``, ``artifact``                                trust as by :class:`sentry.Policy`
``signature``                                           the signature file, or a list; default: ``model.sig`` in the model
``weights``                                             names of the safetensors files; default: as for :func:`sentry.load_model`
``device``                                              where tensors are loaded to; default: where vLLM wants the model
======================================================  =====================================================================
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import _native
from ._allocate import Tensor, allocator
from ._errors import ChangedError, FormatError, UsageError, VerificationError, _Described, from_native, printable
from ._folder import _folder_of_copies, _system_errors
from ._models import load_files
from ._trust import Trust, signatures
from .transformers import _ADAPTER, _check_indexes, _check_references, _texts, is_read

__all__ = ["register"]

_FORMAT = "sentry"

# The settings that say whom to trust, each with the others that go with it.
_TRUSTS = {
    "public_key": ("timestamp_roots",),
    "roots": ("identity", "any_identity", "timestamp_roots"),
    "policy": ("artifact",),
}
_TEXTS = frozenset({"public_key", "identity", "policy", "artifact", "device"})
_LISTS = frozenset({"roots", "timestamp_roots", "signature", "weights"})

# Larger files are loaded tensor by tensor where the signature lists tensors, so that the GPU never holds the model twice; in bytes.
_LARGEST_BUFFER = 1 << 29

# At the top of a folder: what no signature covers, and nobody loads.
_NOT_PART = (".git", ".gitattributes", ".github", ".gitignore", ".cache/huggingface")
_DEFAULT_SIGNATURE = "model.sig"

# Where a configuration came from, which is not in its file; and what vLLM itself sets, to these values.
_ORIGINS = frozenset({"_name_or_path", "name_or_path", "_commit_hash", "transformers_version"})
_SET_BY_VLLM: dict[str, tuple[object, ...]] = {
    "tie_word_embeddings": (False,),
    "sliding_window": (None,),
    "is_causal": (False, True),
}
# What it adds to the settings of quantization.
_ADDED_BY_VLLM = frozenset({"total_num_heads", "total_num_kv_heads"})
_ABSENT = object()


@functools.cache
def register() -> None:
    """Make the load format known to vLLM, which calls this in each of its processes."""
    from vllm.model_executor.model_loader import register_model_loader

    register_model_loader(_FORMAT)(_loader())


@functools.cache
def _loader() -> type:
    """The loader. Its class is made here because vLLM has to be there for that."""
    from vllm.model_executor.model_loader import BaseModelLoader

    class SentryModelLoader(BaseModelLoader):  # type: ignore[misc]
        """Loads signed models."""

        def __init__(self, load_config: Any) -> None:
            super().__init__(load_config)
            self._settings = _settings(load_config.model_loader_extra_config)
            self._trust = _trust(self._settings)
            _check_load_config(load_config)

        def download_model(self, model_config: Any) -> None:
            """Download a model from the hub, if it is not a folder. Nothing is verified yet."""
            _folder(model_config, self.load_config)

        def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> Any:
            """Build a module and load verified weights into it.

            Raises
            ------
            sentry.VerificationError, sentry.NotCheckedError, sentry.UsageError
                The model cannot be trusted, or asks for something that its signature does not cover. There is no module then.
            """
            _check_vllm_config(vllm_config)
            # Also before a module is built by the configuration, and not only before weights are read.
            with ExitStack() as stack:
                self._open(stack, model_config)
            return super().load_model(vllm_config=vllm_config, model_config=model_config, prefix=prefix)

        def load_weights(self, model: Any, model_config: Any) -> None:
            """Load verified weights into a module. If anything fails, all of its memory is zeroed.

            Raises
            ------
            sentry.VerificationError, sentry.NotCheckedError, sentry.UsageError
                As for `load_model`.
            """
            try:
                self._load(model, model_config)
            except BaseException:
                # The traceback keeps the module.
                _wipe(model)
                raise

        def _load(self, model: Any, model_config: Any) -> None:
            import torch

            _check_model(model)
            device = self._settings.get("device") or self.load_config.device or torch.get_default_device()
            with ExitStack() as stack:
                reader = self._open(stack, model_config)
                files = reader.open_weights(self._settings.get("weights"))
                loaded = model.load_weights(_weights(reader, files, device))
            _check_complete(model, loaded)
            _log(model_config, reader)

        def _open(self, stack: ExitStack, model_config: Any) -> _native.Reader:
            """The model on disk, whose signature holds and by whose signed configuration vLLM works."""
            _check_model_config(model_config)
            path = _folder(model_config, self.load_config)
            given = signatures(self._settings.get("signature"))
            reader = _native.Reader(path, given, self._trust)
            _check_all_signed(Path(path), reader, given)
            # One reader, and so one signed statement, for the configuration and the weights.
            names = [name for name in reader.names() if is_read(name) and not name.endswith(".safetensors")]
            with _system_errors():
                folder = _folder_of_copies(stack, reader, names)
            if (folder / _ADAPTER).exists():
                raise UsageError(f"{_ADAPTER} names a base model, which this signature does not cover")
            _check_references(folder)
            _check_indexes(folder)
            _check_config(model_config, folder)
            return reader

    return SentryModelLoader


def _settings(given: Any) -> dict[str, Any]:
    """The settings, each of its type."""
    if not isinstance(given, dict):
        raise UsageError(f"model_loader_extra_config is a mapping of settings, not {type(given).__name__}")
    known = {*_TEXTS, *_LISTS, "any_identity"}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f'model_loader_extra_config has no "{printable(name)}"\nhint: it has {", ".join(sorted(known))}')
        is_text = isinstance(value, str) and value != ""
        is_list = isinstance(value, list) and value != [] and all(isinstance(part, str) for part in value)
        if name == "any_identity" and not isinstance(value, bool):
            raise UsageError(f"{name} is true or false, not {value!r}")
        if name in _TEXTS and not is_text:
            raise UsageError(f"{name} is text, not {value!r}")
        if name in _LISTS and not (is_text or is_list):
            raise UsageError(f"{name} is text or a list of texts, not {value!r}")
    return {name: [value] if name in _LISTS and isinstance(value, str) else value for name, value in given.items()}


def _trust(settings: dict[str, Any]) -> Trust:
    """Whom the settings trust."""
    named = [name for name in _TRUSTS if name in settings]
    if len(named) != 1:
        raise UsageError(
            "say whom you trust, in one way: model_loader_extra_config has one of public_key, roots and policy, "
            f"found {' and '.join(named) or 'none'}"
        )
    kind = named[0]
    for name in ("timestamp_roots", "identity", "any_identity", "artifact"):
        if name in settings and name not in _TRUSTS[kind]:
            raise UsageError(f"{name} does not go with {kind}")
    options = {name: settings[name] for name in _TRUSTS[kind] if name in settings}
    classes: dict[str, Any] = {"public_key": _native.PublicKey, "roots": _native.Certificate, "policy": _native.Policy}
    trust: Trust = classes[kind](settings[kind], **options)
    return trust


def _check_load_config(load_config: Any) -> None:
    """Refuse ways of loading that this is none of."""
    if load_config.safetensors_load_strategy is not None:
        raise UsageError("safetensors_load_strategy is about files that are not verified: leave it out")
    if load_config.download_dir is not None:
        raise UsageError("download_dir would keep the weights apart from the configuration: the variable HF_HOME moves both")


def _check_vllm_config(vllm_config: Any) -> None:
    """Refuse weights beside those of the model."""
    if vllm_config.lora_config is not None:
        raise UsageError("LoRA adapters come without a signature that would be checked: merge them into the model and sign that")
    draft = getattr(vllm_config.speculative_config, "draft_load_config", None)
    if draft is not None and draft.load_format != _FORMAT:
        raise UsageError(f'a draft model would be loaded unverified: its load format is "{printable(draft.load_format)}"')


def _check_model_config(model_config: Any) -> None:
    """Refuse options by which vLLM reads something that the signature does not cover."""
    if model_config.trust_remote_code:
        raise UsageError("code that comes with a model is not run: trust_remote_code stays False")
    for name in ("hf_config_path", "code_revision", "model_weights"):
        if getattr(model_config, name):
            raise UsageError(f"{name} is about files that the signature does not cover: leave it out")
    if model_config.tokenizer != model_config.model or model_config.tokenizer_revision != model_config.revision:
        raise UsageError("the tokenizer is that of the signed model: leave tokenizer and tokenizer_revision out")
    if model_config.generation_config not in ("auto", "vllm", model_config.model):
        raise UsageError("generation_config is that of the signed model: 'auto', or 'vllm' for none")
    if callable(model_config.hf_overrides):
        raise UsageError("hf_overrides is a mapping here: what a function does to the signed configuration cannot be compared")
    for text in _texts(model_config.hf_overrides):
        if "/" in text or "\\" in text:
            raise UsageError(f'hf_overrides has "{printable(text)}", which names a file or repository that the signature does not cover')
    if getattr(model_config.multimodal_config, "mm_encoder_fp8_scale_path", None):
        raise UsageError("mm_encoder_fp8_scale_path names a file that the signature does not cover: leave it out")
    _check_quantization(model_config)


def _check_quantization(model_config: Any) -> None:
    """Refuse settings of quantization that vLLM reads by itself, from other files than those that are compared."""
    if model_config.quantization is None:
        return
    if model_config.quantization == "torchao":
        raise UsageError("weights that torchao has quantized are not plain tensors, and are not loaded")
    config = model_config.hf_config
    text = getattr(config, "text_config", None)
    places = ((config, "quantization_config"), (text, "quantization_config"), (config, "compression_config"))
    settings = next((found for owner, name in places if (found := getattr(owner, name, None)) is not None), None)
    if model_config.quantization == "modelopt_mixed" and "quantized_layers" not in (settings or {}):
        settings = None
    elif settings is None:
        # Of vLLM's own, which quantizes while it loads.
        settings = model_config.quantization_config
    if settings is None:
        raise UsageError("the settings of quantization are in a file of their own: they belong into the signed config.json")


def _check_model(model: Any) -> None:
    """Refuse a module that takes its weights from elsewhere."""
    if getattr(model, "secondary_weights", ()):
        raise UsageError(f"{type(model).__name__} takes weights from further files, which are not loaded: use another load format")
    if getattr(model, "allow_patterns_overrides", None) is not None:
        raise UsageError(f"{type(model).__name__} chooses its files by pattern, which is not supported: use another load format")


def _folder(model_config: Any, load_config: Any) -> str:
    """The model's folder, where vLLM has read its configuration too."""
    if os.path.isdir(model_config.model):
        return str(model_config.model)
    from . import hub

    token = model_config.hf_token if isinstance(model_config.hf_token, str) else None
    return hub.download(model_config.model, revision=model_config.revision, token=token, wanted=is_read)


def _check_all_signed(folder: Path, reader: _native.Reader, given: list[Any]) -> None:
    """Refuse a folder with files that are not signed: vLLM looks for optional ones by their names, such as a chat template."""
    expected = set(reader.names())
    found = {os.path.realpath(path) for path in given or [folder / _DEFAULT_SIGNATURE]}
    different: list[_Described] = []
    for name in sorted(_names(folder)):
        is_signature = os.path.realpath(folder / name) in found
        if name not in expected and not is_signature:
            different.append(("unsigned_file", name, None, None, None, None, None, None, None, f'"{printable(name)}" is not signed'))
    if different:
        raise from_native("model_differs", True, different[0][-1], different)


def _names(folder: Path) -> Iterator[str]:
    """The names of all that lies in a folder and is part of the model. A link counts as what it is, and is not followed."""

    def fail(error: OSError) -> None:
        raise error

    with _system_errors():
        for parent, folders, files in os.walk(folder, onerror=fail):
            place = Path(parent).relative_to(folder)
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            folders[:] = [name for name in folders if (place / name).as_posix() not in _NOT_PART]
            yield from (name for name in ((place / file).as_posix() for file in (*files, *links)) if name not in _NOT_PART)


def _check_config(model_config: Any, folder: Path) -> None:
    """Make sure that the configuration that vLLM has read, before anything was verified, is the signed one."""
    from vllm.transformers_utils.config import get_config

    overrides = model_config.hf_overrides
    flat = {name: value for name, value in overrides.items() if not isinstance(value, dict)}
    nested = {name: value for name, value in overrides.items() if isinstance(value, dict)}
    signed = get_config(str(folder), False, config_format=model_config.config_format, hf_overrides_kw=flat)
    if nested:
        model_config._apply_dict_overrides(signed, nested)
    for place in _differences(signed.to_dict(), model_config.hf_config.to_dict()):
        raise ChangedError(
            f'vLLM works by another configuration than the signed one: "{printable(place)}" differs\n'
            "hint: make sure that nothing writes to the model, then try again",
            code="file_changed_while_read",
        )


def _differences(signed: object, used: object, place: str = "") -> Iterator[str]:
    """Where two configurations differ, but for what vLLM sets by itself."""
    if isinstance(signed, dict) and isinstance(used, dict):
        for key in sorted({*map(str, signed), *map(str, used)} - _ORIGINS):
            one, other = _entry(signed, key), _entry(used, key)
            if one is _ABSENT and key in _ADDED_BY_VLLM:
                continue
            if key in _SET_BY_VLLM and any(other is value for value in _SET_BY_VLLM[key]):
                continue
            yield from _differences(one, other, f"{place}.{key}" if place else key)
    elif isinstance(signed, (list, tuple)) and isinstance(used, (list, tuple)) and len(signed) == len(used):
        for index, (one, other) in enumerate(zip(signed, used, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")
    elif type(signed) is not type(used) or signed != used:
        yield place


def _entry(config: dict[Any, Any], key: str) -> object:
    """An entry by its key as text: those of a mapping of labels are numbers."""
    return next((value for name, value in config.items() if str(name) == key), _ABSENT)


def _weights(reader: _native.Reader, files: list[_native.SignedFile], device: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of the files, each of them verified when it comes."""
    for file in files:
        if file.is_annotated and file.size > _LARGEST_BUFFER:
            yield from _one_by_one(file, device)
            continue
        tensors = load_files(reader, [file], "torch", device)
        for name in list(tensors):
            # Not kept here, so that the buffer is freed before the next one is taken.
            yield name, tensors.pop(name)


def _one_by_one(file: _native.SignedFile, device: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of one file, each in memory of its own."""
    memory = allocator("torch", device)
    for place, described in enumerate(file.tensors()):
        tensor = Tensor(*described)
        room = memory.tensor(tensor)
        ((_, _, gpu, address),) = room.regions
        try:
            file.load_tensor(place, gpu, address, memory.streams())
            loaded = room.tensors()[tensor.name]
        finally:
            # The traceback, or this generator, would keep the memory.
            del room
        yield tensor.name, loaded
        del loaded


def _check_complete(model: Any, loaded: set[str] | None) -> None:
    """Refuse a module of which some memory was not loaded: what lies there, nobody has signed."""
    from vllm.model_executor.model_loader import DefaultModelLoader

    if loaded is None:
        raise UsageError(f"{type(model).__name__} does not say which weights it has loaded: use another load format")
    try:
        # As strictly as for quantized models: for others, vLLM leaves most layers out.
        DefaultModelLoader.track_weights_loading(None, model, set(loaded), quantized=True)
    except ValueError as error:
        message = f"the signed files do not have all weights of the model: {printable(error)}"
        raise FormatError(message, code="weights_incomplete") from error


def _wipe(model: Any) -> None:
    """Zero all memory of a module."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            tensor.untyped_storage().fill_(0)


def _log(model_config: Any, reader: _native.Reader) -> None:
    """Say who signed what is served."""
    from vllm.logger import init_logger

    verification = reader.load_files([], [])
    signers = " and ".join(printable(signer) for signer in verification.signers)
    init_logger("vllm.sentry").info(
        'every loaded byte of "%s" is signed by %s; statement %s', printable(model_config.model), signers, verification.payload_sha256
    )
