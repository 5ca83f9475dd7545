"""Class safetensors, part four: the files of parts one to three again, met by the loaders.

`_loaded`: by that of the Python package; `_loaded_to_a_gpu`: by `sentry load`, to an emulated GPU that hashes them. A file that
`sentry sign` refuses is here signed by someone who does not look, as the digest of a file and no more: the loader must find for
itself what is wrong with it, before it takes memory for it. `_in_memory`: a file that was tampered with was loaded by somebody
else, and its tensors are verified where they lie.
"""

from kit.case import CASES, rejected
from kit.gpus import emulated
from kit.world import FIRST

from . import manifest_changed, safetensors, safetensors_changed, safetensors_header

MIB = 1 << 20


def tensors(kind, *names, file=None):
    """Differences of one kind."""
    return {(kind, file, name) for name in names}


# Fixtures of another class that spoil a safetensors file, and what the loader says otherwise than `sentry verify`: it reads
# the header before anything else, and opens one file after the other.
OF_THE_MANIFEST = {
    "two_files_swapped__safetensors": ("model_differs", {("changed_header", FIRST, None)}),
    "one_bit_flip__tensor": None,
    "one_bit_flip__last_byte_of_last_tensor": None,
    "one_bit_flip__safetensors_not_annotated": None,
    "one_bit_flip__header_length_low": None,
    "one_bit_flip__header_length_high": ("safetensors_header_too_large", None),
    "one_bit_flip__header_text": None,
    "file_truncated__safetensors": ("safetensors_past_end", None),
    "file_truncated__safetensors_to_nothing": ("safetensors_header_truncated", None),
    "file_extended_by_zeroes__safetensors": ("safetensors_trailing_data", None),
}

# The same for this class. The digest of the whole file, which the annotation contradicts here, is not what a loader checks.
OTHERWISE = {
    "tensor_swap_equal_shape__signed": ("model_differs", tensors("changed_tensor", "layer.0.weight", "layer.1.weight", file=FIRST)),
}

# What is wrong in memory, where there are no headers.
BOTH = ("layer.0.weight", "layer.1.weight")
IN_MEMORY = {
    "tensor_swap_equal_shape": tensors("changed_tensor", *BOTH),
    "tensor_swap_equal_shape__names_in_the_header": tensors("changed_tensor", *BOTH),
    "tensor_rename": tensors("missing_tensor", "layer.bias") | tensors("unsigned_tensor", "layer.Bias"),
    "dtype_reinterpret_f16_bf16": tensors("changed_type", "embed.weight"),
    "shape_transposed_same_bytes": tensors("changed_shape", "embed.weight"),
    "bytes_moved_across_tensor_boundary": tensors("changed_shape", *BOTH),
    "bytes_moved_across_tensor_boundary__by_data": tensors("changed_tensor", "embed.weight", *BOTH, "layer.bias"),
    "zero_size_tensor_reuses_offset__appended_after_signing": tensors("unsigned_tensor", "extra"),
    "tensor_added_to_the_file": tensors("unsigned_tensor", "extra"),
}


def loaded(original, otherwise):
    """Registers a fixture again, to be loaded."""
    code, differences = otherwise or (original.code, None)

    def build(world):
        attempt = original.build(world)
        if attempt.args[0] == "sign":
            world.sign(world.statement(annotate=False))
        file = safetensors.NAME if (world.model / safetensors.NAME).exists() else FIRST
        expected = differences if otherwise else attempt.differences
        return world.calling("load_model", weights=(file,), differences=expected, memory=512 * MIB)

    def to_a_gpu(world):
        attempt = build(world)
        file = attempt.args[attempt.args.index("--weights") + 1]
        return world.loading("--device", "cuda", "--weights", file, differences=attempt.differences, environment=emulated())

    register(original, code, "loaded", build)
    register(original, code, "loaded_to_a_gpu", to_a_gpu)


def in_memory(original, differences):
    """Registers a fixture again: the tensors of its spoilt file, against the honest signature."""

    def build(world):
        original.build(world)
        signature = ["--signature", str(world.signature)]
        return world.calling("verify_tensors", *signature, path=world.model / FIRST, weights=(FIRST,), differences=differences)

    register(original, "model_differs", "in_memory", build)


def register(original, code, what, build):
    """Adds a case, under the name of the original and one word more."""
    build.__name__ = f"{original.name}{'_' if '__' in original.name else '__'}{what}"
    build.__doc__ = original.build.__doc__
    # The naive verifier has seen the original, and looks at other codes here.
    rejected(original.group)(code, naive=False)(build)


def cases_of(*modules):
    """What these modules have registered."""
    names = [module.__name__ for module in modules]
    return {case.name: case for case in CASES if case.build.__module__ in names}


for name, case in cases_of(safetensors, safetensors_changed, safetensors_header).items():
    loaded(case, OTHERWISE.get(name))
for name, otherwise in OF_THE_MANIFEST.items():
    loaded(cases_of(manifest_changed)[name], otherwise)
for name, differences in IN_MEMORY.items():
    in_memory(cases_of(safetensors_changed)[name], differences)
