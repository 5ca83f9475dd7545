"""``from_pretrained`` for signed models.

    from transformers import AutoModel, AutoTokenizer
    from sentry.transformers import from_pretrained

    model = from_pretrained(AutoModel, "my-model/", trust=trust)
    tokenizer = from_pretrained(AutoTokenizer, "my-model/", trust=trust)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import UsageError
from ._folder import verified_folder

if TYPE_CHECKING:
    from typing import Union

    from ._native import PublicKey

    Path = Union[str, os.PathLike[str]]

__all__ = ["from_pretrained", "is_read"]

T = TypeVar("T")

# Weights in formats that are not read, several of which are pickles, and files for people.
_NOT_READ = (
    *(".bin", ".ckpt", ".gguf", ".h5", ".mlmodel", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pb", ".pickle", ".pkl", ".pt", ".pth"),
    *(".tflite", ".xml"),
    *(".gif", ".jpeg", ".jpg", ".md", ".pdf", ".png", ".svg", ".webp"),
)

# Names a base model elsewhere.
_ADAPTER = "adapter_config.json"


def is_read(name: str) -> bool:
    """Whether a signed file can matter to transformers. All of these must be there; others are not even looked at."""
    return not name.lower().endswith(_NOT_READ)


def from_pretrained(
    cls: type[T],
    path: Path,
    *,
    trust: PublicKey,
    signature: Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
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
        Who may have signed: a :class:`sentry.PublicKey`.
    signature
        The signature file. Default: ``model.sig`` in the folder.
    revision, token, cache_dir
        For the hub, as in :func:`sentry.hub.download`.
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
        The options ask for something that no signature covers: code of the model's own, or an adapter on a base model that
        lies elsewhere.
    """
    if options.pop("trust_remote_code", False):
        raise UsageError("code that comes with a model is not run: trust_remote_code stays False")
    if not options.pop("use_safetensors", True):
        raise UsageError("pickled weights are not read: use_safetensors stays True")
    name = os.fspath(path)
    if not os.path.isdir(path):
        from . import hub

        path = hub.download(name, revision=revision, token=token, cache_dir=cache_dir, wanted=is_read)
    elif revision is not None or token is not None or cache_dir is not None:
        raise UsageError("revision, token and cache_dir are for the hub, and this is a folder")
    loads_weights = _loads_weights(cls)
    if loads_weights:
        options["use_safetensors"] = True

    def wanted(file: str) -> bool:
        return is_read(file) and (loads_weights or not file.endswith(".safetensors"))

    with verified_folder(path, trust=trust, signature=signature, wanted=wanted) as folder:
        if loads_weights and (folder / _ADAPTER).exists():
            raise UsageError(f"{_ADAPTER} names a base model, which this signature does not cover: load that first, then the adapter")
        loaded: T = cls.from_pretrained(str(folder), local_files_only=True, **options)  # type: ignore[attr-defined]
    _rename(loaded, str(folder), name)
    return loaded


def _loads_weights(cls: type) -> bool:
    """Whether a class reads weights; what is not known to do without may."""
    import transformers

    without = (
        transformers.PreTrainedTokenizerBase,
        transformers.PretrainedConfig,
        transformers.GenerationConfig,
        transformers.ProcessorMixin,
        transformers.AutoConfig,
        transformers.AutoTokenizer,
        transformers.AutoProcessor,
        transformers.AutoImageProcessor,
        transformers.AutoFeatureExtractor,
    )
    return not issubclass(cls, without)


def _rename(loaded: object, folder: str, name: str) -> None:
    """Let what was loaded say where it comes from: the folder of copies is gone."""
    for owner in (loaded, getattr(loaded, "config", None), getattr(loaded, "generation_config", None)):
        for attribute in ("name_or_path", "_name_or_path"):
            if getattr(owner, attribute, None) == folder:
                setattr(owner, attribute, name)
    options = getattr(loaded, "init_kwargs", None)
    if isinstance(options, dict) and options.get("name_or_path") == folder:
        options["name_or_path"] = name
