"""``from_pretrained`` for signed models.

    from transformers import AutoModel, AutoTokenizer
    from sentry.transformers import from_pretrained

    model = from_pretrained(AutoModel, "my-model/", trust=trust)
    tokenizer = from_pretrained(AutoTokenizer, "my-model/", trust=trust)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from ._allocate import torch_device
from ._errors import FormatError, UsageError, printable
from ._folder import verified_folder
from ._trust import check_trust

if TYPE_CHECKING:
    import pathlib
    from typing import Union

    from ._trust import Paths, Trust

    Path = Union[str, os.PathLike[str]]

__all__ = ["from_pretrained", "is_read"]

T = TypeVar("T")

# Weights in formats that are not read, several of which are pickles, code, and files for people.
_NOT_READ = (
    *(".bin", ".ckpt", ".distcp", ".gguf", ".h5", ".metadata", ".mlmodel", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pb"),
    *(".pickle", ".pkl", ".pt", ".pth", ".py", ".tflite", ".xml"),
    *(".gif", ".jpeg", ".jpg", ".md", ".pdf", ".png", ".svg", ".webp"),
)

# Names a base model elsewhere.
_ADAPTER = "adapter_config.json"

# Configurations that can name other repositories, under these keys.
_CONFIGS = ("config.json", "processor_config.json", "audio_tokenizer_config.json")
_IMPLEMENTATIONS = frozenset({"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"})

# Options for other files than the signed ones, for another vocabulary or other weights, for code, and for the hub.
_ELSEWHERE = frozenset(
    {
        *("adapter_kwargs", "allow_all_kernels", "code_revision", "entity_vocab", "force_download", "kernel_config", "local_files_only"),
        *("merges", "proxies", "resume_download", "state_dict", "tokenizer_object", "use_kernels", "vocab"),
    }
)
_ELSEWHERE_ENDS = ("_dir", "_file", "_filename", "_files", "_folder", "_file_name", "_path", "_paths")

# Options whose text may have a slash without being the name of a file or repository.
_TEXTS = frozenset({"chat_template", "id2label", "label2id"})
_TEXT_ENDS = ("_token", "_tokens")


def is_read(name: str) -> bool:
    """Whether a signed file can matter to transformers. All of these must be there; others are not even looked at."""
    return not name.lower().endswith(_NOT_READ)


def from_pretrained(
    cls: type[T],
    path: Path,
    *,
    trust: Trust,
    signature: Paths | None = None,
    revision: str | None = None,
    token: str | None = None,
    token_file: Path | None = None,
    cache_dir: Path | None = None,
    device: Any = None,
    **options: Any,
) -> T:
    """Load a model, tokenizer, processor or configuration of transformers from signed files.

    Config, tokenizer and weights are verified, and the library gets copies of them that can no longer be changed; it sees no
    file that is not signed, and no weights but safetensors.

    Parameters
    ----------
    cls
        What to load, such as ``AutoModel``, ``BertModel`` or ``AutoTokenizer``.
    path
        A folder: one that was saved or downloaded, or a snapshot in the hub's cache. Or the name of a repository on the hub,
        ``"organisation/name"``, which is downloaded first.
    trust
        Who may have signed: a :class:`sentry.PublicKey`, a :class:`sentry.Certificate` or a :class:`sentry.Policy`.
    signature
        The signature file; several if the policy asks for several signers. Default: ``model.sig`` in the folder.
    revision, token, token_file, cache_dir
        For the hub, as in :func:`sentry.hub.download`.
    device
        For a model: where it goes once it is verified, such as ``"cuda:0"``. Its weights pass through this machine's memory, where
        transformers converts them; :func:`sentry.load_model` loads tensors to a GPU at once. Default: this machine's memory, or what
        ``device_map`` says.
    options
        Passed on to ``cls.from_pretrained``.

    Returns
    -------
    object
        What ``cls.from_pretrained`` returns.

    Raises
    ------
    sentry.VerificationError
        A file or the signature is wrong; nothing was loaded.
    sentry.UsageError
        The options, or the signed files, ask for something that the signature does not cover: code of the model's own, files or
        repositories that lie elsewhere, an adapter on another base model. Or `cls` is no class of transformers; for other
        libraries there is :func:`sentry.verified_folder`.
    """
    # Before anything is downloaded.
    check_trust(trust)
    loads_weights = _loads_weights(cls)
    _check_options(options)
    # What is left of those is off.
    options = {name: value for name, value in options.items() if not _is_elsewhere(name)}
    if device is not None:
        if not loads_weights:
            raise UsageError("device is where a model goes, and this is none")
        if options.get("device_map") is not None:
            raise UsageError("device and device_map both say where the model goes: give one")
        # Now, and not after gigabytes were read.
        device = torch_device(device)
    if options.pop("trust_remote_code", None):
        raise UsageError("code that comes with a model is not run: trust_remote_code stays False")
    if options.pop("use_safetensors", None) not in (None, True):
        raise UsageError("pickled weights are not read: use_safetensors stays True")
    if loads_weights is not None:
        # Said, so that nobody at the terminal is asked.
        options["trust_remote_code"] = False
    if loads_weights:
        options["use_safetensors"] = True
    name = os.fspath(path)
    if not os.path.isdir(path):
        from . import hub

        path = hub.download(name, revision=revision, token=token, token_file=token_file, cache_dir=cache_dir, wanted=is_read)
    elif any(option is not None for option in (revision, token, token_file, cache_dir)):
        raise UsageError("revision, token, token_file and cache_dir are for the hub, and this is a folder")

    def wanted(file: str) -> bool:
        return is_read(file) and (bool(loads_weights) or not file.endswith(".safetensors"))

    with verified_folder(path, trust=trust, signature=signature, wanted=wanted) as folder:
        top = folder / (options.get("subfolder") or "")
        if loads_weights and (top / _ADAPTER).exists():
            raise UsageError(f"{_ADAPTER} names a base model, which this signature does not cover: load that first, then the adapter")
        _check_references(top)
        _check_indexes(folder)
        loaded: T = cls.from_pretrained(str(folder), local_files_only=True, **options)  # type: ignore[attr-defined]
    _check_origin(loaded, str(folder))
    _rename(loaded, str(folder), name)
    if device is not None:
        # Some options make the library return more than the model.
        model: Any = loaded[0] if isinstance(loaded, tuple) else loaded
        model.to(device)
    return loaded


def _loads_weights(cls: Any) -> bool | None:
    """Whether a class reads weights. None if it reads one configuration and nothing else."""
    import transformers
    from transformers.models.auto.auto_factory import _BaseAutoBackboneClass, _BaseAutoModelClass

    configs = (
        *(transformers.PretrainedConfig, transformers.GenerationConfig),
        *(transformers.ImageProcessingMixin, transformers.FeatureExtractionMixin),
    )
    without = (
        *(transformers.PreTrainedTokenizerBase, transformers.ProcessorMixin),
        *(transformers.AutoConfig, transformers.AutoTokenizer, transformers.AutoProcessor),
        *(transformers.AutoImageProcessor, transformers.AutoFeatureExtractor),
        # Older versions have none.
        getattr(transformers, "AutoVideoProcessor", transformers.AutoProcessor),
    )
    # Backbones ask the hub first, whatever they are given.
    if isinstance(cls, type) and not issubclass(cls, _BaseAutoBackboneClass):
        if issubclass(cls, configs):
            return None
        if issubclass(cls, without):
            return False
        if issubclass(cls, (transformers.PreTrainedModel, _BaseAutoModelClass)):
            return True
    name = getattr(cls, "__name__", repr(cls))
    raise UsageError(f"{name} is no model, tokenizer, processor or configuration of transformers: use sentry.verified_folder")


def _is_elsewhere(name: str) -> bool:
    return name in _ELSEWHERE or name.startswith("_") or name.endswith(_ELSEWHERE_ENDS)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that make transformers read something that the signature does not cover."""
    import transformers

    for name, value in options.items():
        if _is_elsewhere(name):
            if value is not None and value is not False:
                raise UsageError(f"{name} is about files or code that the signature does not cover: load them by themselves")
        elif name == "config":
            if value is not None and not isinstance(value, transformers.PretrainedConfig):
                raise UsageError("config is an object, not a file: load it with from_pretrained(AutoConfig, ...) first")
        elif name == "subfolder":
            if not isinstance(value, str) or value.startswith("/") or ".." in PurePosixPath(value).parts:
                raise UsageError(f"subfolder is a folder inside the model, not {value!r}")
        elif name not in _TEXTS and not name.endswith(_TEXT_ENDS):
            for text in _texts(value):
                if "/" in text or "\\" in text:
                    raise UsageError(f"{name}={text!r} names a file or repository, which the signature does not cover")
    device_map = options.get("device_map")
    if device_map == "disk" or (isinstance(device_map, dict) and "disk" in device_map.values()):
        raise UsageError("weights that stay on disk would be read again unverified: device_map has no 'disk'")


def _texts(value: object) -> Iterator[str]:
    """The strings in an option, and its paths, which end in a slash then."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, os.PathLike):
        yield os.path.join(os.fsdecode(value), "")
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from _texts(part)


def _check_references(folder: pathlib.Path) -> None:
    """Refuse signed files by which transformers would load something of another repository."""
    for file in _CONFIGS:
        try:
            config = json.loads((folder / file).read_bytes())
        except (OSError, ValueError):
            # Absent, or malformed: that is for the library to say.
            continue
        for key, other in _references(config):
            raise UsageError(f"{file} has {key}={other!r}, which is not part of this model and which its signature does not cover")


def _check_indexes(folder: pathlib.Path) -> None:
    """Refuse signed indexes by which transformers would load weights from outside of the folder."""
    for index in folder.rglob("*.index.*json"):
        try:
            files = json.loads(index.read_bytes())["weight_map"].values()
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            # Malformed: that is for the library to say.
            continue
        for file in files:
            name = PurePosixPath(str(file))
            if name.is_absolute() or ".." in name.parts:
                path = printable(index.relative_to(folder))
                raise FormatError(f'"{path}" is no valid index: it names "{printable(file)}", which lies outside of the model', code="index_invalid")


def _references(config: object) -> Iterator[tuple[str, str]]:
    """Names of other repositories in a configuration, each with its key."""
    if isinstance(config, list):
        for part in config:
            yield from _references(part)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key in _IMPLEMENTATIONS:
            # Kernels, which are native code.
            yield from ((key, text) for text in _texts(value) if "/" in text)
        elif key == "audio_tokenizer_name_or_path" and isinstance(value, str):
            yield key, value
        elif key == "backbone" and isinstance(value, str) and "/" in value and not config.get("backbone_config"):
            yield key, value
        else:
            yield from _references(value)


def _parts(loaded: Any) -> list[Any]:
    """What was loaded, and what a processor is made of. Some options make the library return more than one object."""
    import transformers

    parts = list(loaded) if isinstance(loaded, tuple) else [loaded]
    for processor in [part for part in parts if isinstance(part, transformers.ProcessorMixin)]:
        parts += vars(processor).values()
    return parts


def _check_origin(loaded: Any, folder: str) -> None:
    """Make sure that nothing of what was loaded is read, or was, from elsewhere."""
    for part in _parts(loaded):
        origin = getattr(part, "name_or_path", None)
        if isinstance(origin, str) and origin and origin != folder and not origin.startswith(folder + "/"):
            raise UsageError(f"{type(loaded).__name__} loads a part of it from {origin!r}, which the signature does not cover")
        if "disk" in (getattr(part, "hf_device_map", None) or {}).values():
            raise UsageError("the model does not fit into memory, and weights that stay on disk would be read again unverified")


def _rename(loaded: Any, folder: str, name: str) -> None:
    """Let what was loaded say where it comes from: the folder of copies is gone."""
    for part in _parts(loaded):
        for owner in (part, getattr(part, "config", None), getattr(part, "generation_config", None)):
            for attribute in ("name_or_path", "_name_or_path"):
                if getattr(owner, attribute, None) == folder:
                    setattr(owner, attribute, name)
        options = getattr(part, "init_kwargs", None)
        if isinstance(options, dict) and options.get("name_or_path") == folder:
            options["name_or_path"] = name
