//! Every URI and media type that a bundle of ours holds, in one place.

/// Media type of the bundles that are written and read: Sigstore bundle v0.3.
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// DSSE payload type: an in-toto statement in JSON.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// in-toto Statement v1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// OpenSSF Model Signing v1.0: files of a model.
pub const MODEL_SIGNING_V1: &str = "https://model_signing/signature/v1.0";

/// What model-signing 0.2 wrote; recognised in order to say so.
pub const MODEL_SIGNING_V0_1: &str = "https://model_signing/Digests/v0.1";

/// Annotation of a statement's subject: the artifact's version, an integer.
pub const VERSION_ANNOTATION: &str = "sentry-ml.dev/version";

/// Tensors in memory.
pub const TENSORS_V1: &str = "https://sentry-ml.dev/tensors/v1";

/// A dataset.
pub const DATASET_V1: &str = "https://sentry-ml.dev/dataset/v1";

/// The one lattice of datasets: 1024 lanes of 16 bits, from BLAKE3's output.
pub const LATTICE: &str = "lthash16-1024-blake3";
