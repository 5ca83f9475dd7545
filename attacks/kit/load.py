"""Calls a function of the Python package as a command, so that cases play it as they play the binary.

python load.py FUNCTION PATH --key PUB [--signature FILE] [...] [--json]

With `--json` it prints one document in the form of `sentry verify --json`; a document of success also has `content`, the
SHA-256 of everything that was handed out, by name. Text goes to stderr. Exits with 0 if the function returned, 1 if it
rejected, 2 if it did not check. Nothing of `kit` is imported: this is a program of its own, and plays a caller.
"""

import argparse
import hashlib
import json
import os
import pickle
import signal
import sys
from pathlib import Path

import numpy
import sentry


def main() -> int:
    """Returns the exit status."""
    options = arguments()
    try:
        document = {"status": "verified", **FUNCTIONS[options.function](options)}
    except sentry.Error as error:
        rejected = isinstance(error, sentry.VerificationError)
        differences = [difference(each) for each in getattr(error, "differences", ())]
        return failure(options, 1 if rejected else 2, error.code, str(error), differences)
    except (pickle.UnpicklingError, OSError) as error:
        # The library that got verified bytes does not take them.
        return failure(options, 1, type(error).__name__, str(error), [])
    print(json.dumps(document) if options.json else "", end="")
    return 0


def failure(options: argparse.Namespace, status: int, code: str, message: str, differences: list[dict]) -> int:
    """Reports an error, and returns the exit status."""
    print(f"{code}: {message}", file=sys.stderr)
    if options.json:
        error = {"code": code, "message": message, "differences": differences}
        print(json.dumps({"status": ("rejected", "not checked")[status - 1], "error": error}))
    return status


def difference(found: sentry.Difference) -> dict:
    """One difference as the command line prints it."""
    return {name: getattr(found, name) for name in ("kind", "file", "tensor", "source", "sample", "field")}


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("function", choices=FUNCTIONS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the public key, or the private one to sign")
    parser.add_argument("--signature", type=Path, metavar="FILE")
    parser.add_argument("--root", type=Path, metavar="DIR")
    parser.add_argument("--weights", action="append", metavar="NAME")
    parser.add_argument("--lie", default="numpy:plain", metavar="HOW", help="how tensors lie in memory: one of LIE below")
    parser.add_argument("--device", default="auto", help="where tensors in memory are hashed")
    parser.add_argument("--weights-only", choices=("True", "False"), default="True", help="passed on to torch.load")
    parser.add_argument("--stop", action="store_true", help="stop between the check and what follows, until continued")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def stop(options: argparse.Namespace) -> None:
    """Gives whoever started this the time to change files."""
    if options.stop:
        os.kill(os.getpid(), signal.SIGSTOP)


def trusting(options: argparse.Namespace) -> dict:
    """What every function is given."""
    return {"trust": sentry.PublicKey(options.key), "signature": options.signature}


def content(loaded: dict) -> dict:
    """What was handed out: SHA-256 by name."""
    return {"content": {name: hashlib.sha256(numpy.ascontiguousarray(part).tobytes()).hexdigest() for name, part in loaded.items()}}


# -- the functions --------------------------------------------------------------------------


def load_model(options: argparse.Namespace) -> dict:
    """`sentry.load_model`."""
    return content(sentry.load_model(options.path, framework="numpy", weights=options.weights, **trusting(options)))


def verify_and_load(options: argparse.Namespace) -> dict:
    """`sentry.verify_model`, and then `sentry.load_model`."""
    sentry.verify_model(options.path, **trusting(options))
    stop(options)
    return load_model(options)


def load_file(options: argparse.Namespace) -> dict:
    """`sentry.safetensors.load_file`."""
    return content(sentry.safetensors.load_file(options.path, root=options.root, framework="numpy", **trusting(options)))


def safe_open(options: argparse.Namespace) -> dict:
    """`sentry.safetensors.safe_open`, and then every tensor."""
    with sentry.safetensors.safe_open(options.path, "np", root=options.root, **trusting(options)) as file:
        stop(options)
        return content({name: file.get_tensor(name) for name in file.keys()})


def verified_folder(options: argparse.Namespace) -> dict:
    """`sentry.verified_folder`, and then every file."""
    with sentry.verified_folder(options.path, **trusting(options)) as folder:
        stop(options)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return content({str(path.relative_to(folder)): numpy.fromfile(path, numpy.uint8) for path in files})


def torch_load(options: argparse.Namespace) -> dict:
    """`sentry.torch.load`."""
    asked = options.weights_only == "True"
    loaded = sentry.torch.load(options.path, root=options.root, weights_only=asked, **trusting(options))
    return content({name: tensor.numpy() for name, tensor in loaded.items()})


def from_pretrained(options: argparse.Namespace) -> dict:
    """`sentry.transformers.from_pretrained` of an `AutoModel`."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = sentry.transformers.from_pretrained(transformers.AutoModel, options.path, **trusting(options))
    return content({name: tensor.numpy() for name, tensor in model.state_dict().items()})


def verify_tensors(options: argparse.Namespace) -> dict:
    """`sentry.verify_model` of the tensors of a file, which lie in memory in one way or another."""
    found = sentry.verify_model(lying(options), weights=options.weights, device=options.device, **trusting(options))
    return {"tensors": found.tensors}


def sign_tensors(options: argparse.Namespace) -> dict:
    """`sentry.sign_model` of the same."""
    signed = sentry.sign_model(lying(options), key=options.key, signature=options.signature, device=options.device)
    return {"status": "signed", "tensors": signed.tensors}


# -- tensors in memory ----------------------------------------------------------------------


def lying(options: argparse.Namespace) -> dict:
    """The tensors of a safetensors file, which is not checked in any way."""
    framework, how = options.lie.split(":")
    raw = options.path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    arrays = {name: array(entry, raw[end:]) for name, entry in header.items() if name != "__metadata__"}
    if framework == "torch":
        import torch

        arrays = {name: torch.from_numpy(each.copy()) for name, each in arrays.items()}
    return {name: LIE[framework][how](each) for name, each in arrays.items()}


def array(entry: dict, data: bytes) -> numpy.ndarray:
    """One tensor."""
    import ml_dtypes

    kind = {"U8": numpy.uint8, "F16": numpy.float16, "F32": numpy.float32, "BF16": ml_dtypes.bfloat16}[entry["dtype"]]
    begin, end = entry["data_offsets"]
    return numpy.frombuffer(data[begin:end], kind).reshape(entry["shape"])


def freed(tensor):
    """A tensor of torch whose memory was given back, as sharding libraries do."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


# Ways in which the same values and shape lie in memory. An expanded tensor has its values if all rows are alike.
LIE = {
    "numpy": {
        "plain": lambda tensor: tensor,
        "transposed": lambda tensor: numpy.asfortranarray(tensor),
        "strided": lambda tensor: numpy.repeat(tensor, 2, -1)[..., ::2],
        "reversed": lambda tensor: tensor[::-1].copy()[::-1],
        "expanded": lambda tensor: numpy.broadcast_to(tensor[:1], tensor.shape),
        "big_endian": lambda tensor: tensor.astype(tensor.dtype.newbyteorder(">")),
        "objects": lambda tensor: tensor.astype(object),
    },
    "torch": {
        "plain": lambda tensor: tensor,
        "transposed": lambda tensor: tensor.t().contiguous().t(),
        "expanded": lambda tensor: tensor[:1].expand(tensor.shape),
        "freed": freed,
    },
}

FUNCTIONS = {
    function.__name__: function
    for function in (
        *(load_model, verify_and_load, load_file, safe_open, verified_folder),
        *(torch_load, from_pretrained, verify_tensors, sign_tensors),
    )
}

if __name__ == "__main__":
    sys.exit(main())
