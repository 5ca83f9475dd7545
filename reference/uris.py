"""Every URI and name that stands in a statement of ours; docs/spec/uris.md lists them all."""

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TENSORS = "https://sentry-ml.dev/tensors/v1"
DATASET = "https://sentry-ml.dev/dataset/v1"
SAFETENSORS_ANNOTATION = "sentry-ml.dev/safetensors/v1"
BLAKE3_ANNOTATION = "sentry-ml.dev/blake3"
VERSION_ANNOTATION = "sentry-ml.dev/version"
LATTICE = "lthash16-1024-blake3"
