"""Sign machine-learning models and datasets, and verify them as they load.

    import sentry

    sentry.sign_model("my-model/", key="sentry.key")        # the publisher, once

    trust = sentry.PublicKey("sentry.pub")                   # everyone who uses the model
    sentry.verify_model("my-model/", trust=trust)            # files on disk,
    sentry.verify_model(module, "model.sig", trust=trust)    # or a torch module that is in memory
    tensors = sentry.load_model("my-model/", trust=trust)    # or while loading

    sentry.sign_dataset("digits/", key="sentry.key")         # datasets likewise,
    verifier = sentry.DatasetVerifier("digits/", trust=trust)
    verifier.check(batch)                                    # each sample before it is trained on

Besides a key, :class:`Certificate` trusts identities that certificates name, and :class:`Policy` a file that says who may sign
what.

Whatever returns has been verified; whatever is wrong is an exception, a subclass of :class:`Error`. No function looks
at the command line or the working directory, and importing this starts no thread and imports neither torch nor numpy.

The modules ``sentry.torch``, ``sentry.safetensors``, ``sentry.transformers``, ``sentry.hub``, ``sentry.datasets`` and
``sentry.webdataset`` stand in for the functions of those libraries, and ``sentry.vllm`` is a plugin; each is imported when it is
first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from . import _native
from ._datasets import DatasetVerifier, FinishedEpoch, Quarantined, Receipt, Source, sign_dataset, verify_dataset
from ._errors import (
    AlgorithmError,
    CertificateError,
    ChangedError,
    DeviceError,
    Difference,
    EnvelopeError,
    EpochError,
    Error,
    FormatError,
    KeyFileError,
    LimitError,
    ManifestError,
    NotCheckedError,
    PathError,
    PolicyError,
    PolicyFileError,
    SampleError,
    SigningError,
    TimestampError,
    UsageError,
    VerificationError,
)
from ._folder import verified_folder
from ._models import VerifiedTensors, load_model, sign_model, verify_model
from ._native import VERSION as __version__
from ._native import Certificate, Policy, PrivateKey, PublicKey, Signature, Verification

if TYPE_CHECKING:
    from . import datasets, hub, safetensors, torch, transformers, vllm, webdataset

__all__ = [
    "AlgorithmError",
    "Certificate",
    "CertificateError",
    "ChangedError",
    "DatasetVerifier",
    "DeviceError",
    "Difference",
    "EnvelopeError",
    "EpochError",
    "Error",
    "FinishedEpoch",
    "FormatError",
    "KeyFileError",
    "LimitError",
    "ManifestError",
    "NotCheckedError",
    "PathError",
    "Policy",
    "PolicyError",
    "PolicyFileError",
    "PrivateKey",
    "PublicKey",
    "Quarantined",
    "Receipt",
    "SampleError",
    "Signature",
    "SigningError",
    "Source",
    "TimestampError",
    "UsageError",
    "Verification",
    "VerificationError",
    "VerifiedTensors",
    "__version__",
    "load_model",
    "sign_dataset",
    "sign_model",
    "verified_folder",
    "verify_dataset",
    "verify_model",
]

if _native.COUNTS_BYTES and os.environ.get("SENTRY_COUNT_BYTES") != "1":
    raise ImportError("this build of sentry was made for a benchmark: it counts bytes instead of hashing them, and verifies nothing")

_ADAPTERS = frozenset({"datasets", "hub", "safetensors", "torch", "transformers", "vllm", "webdataset"})


def __getattr__(name: str) -> object:
    """Import an adapter when it is first used, and with it the library that it adapts to."""
    if name in _ADAPTERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ADAPTERS})
