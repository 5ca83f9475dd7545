"""
The native half of the package.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex, final

__all__ = ["COUNTS_BYTES", "VERSION", "Certificate", "Epoch", "Policy", "PrivateKey", "PublicKey", "Reader", "Receipt", "SampleChecker", "SampleCollector", "Signature", "SignedFile", "TensorDigests", "TensorsCheck", "Verification", "list_images", "path_id", "sign_dataset_files", "sign_files", "verify_dataset_files", "verify_files"]

COUNTS_BYTES: Final[bool]
"""
Whether this build counts bytes where it should hash them, for a benchmark. It verifies nothing.
"""

VERSION: Final[str]
"""
The version of the package.
"""

@final
class Certificate:
    """
    Certificates that are trusted: whoever has one, under one of the roots and with the right name, may sign.

    Parameters
    ----------
    roots
        PEM files with the certificates of authorities. Roots are never taken from a signature.
    identity
        Whom the certificate must name, exactly: an e-mail address, a URI such as ``spiffe://acme.example/trainer``, or a host
        name, as a subject alternative name.
    any_identity
        Instead: everyone who has a certificate under the roots. For private roots only.
    timestamp_roots
        PEM files with the certificates of timestamp authorities (RFC 3161). A timestamped signature holds for as long as the
        certificate was valid then; without, it must be valid now.
    dangerous_allow_ca_leaf
        Accept the certificate of an authority as a signer's. Whoever holds its key can make certificates for others.

    Raises
    ------
    sentry.KeyFileError
        A file holds no certificates of authorities.
    sentry.UsageError
        Neither `identity` nor `any_identity`, or both.
    """
    def __getnewargs_ex__(self, /) -> tuple[tuple[list[Path]], Any]: ...
    def __new__(cls, /, roots: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]], *, identity: str | None = None, any_identity: bool = False, timestamp_roots: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]] | None = None, dangerous_allow_ca_leaf: bool = False) -> Certificate: ...
    def __repr__(self, /) -> str: ...

@final
class Epoch:
    """
    Which samples of a dataset were delivered.
    """
    def deliver(self, /, receipt: Receipt) -> None:
        """
        Takes down that the samples of a receipt were delivered, or kept back.
        """
    def delivered(self, /) -> list[int]:
        """
        How many samples of each source were delivered.
        """
    def finish(self, /, sources: SupportsGetItem[int, str]) -> tuple[int, int, int]:
        """
        The verdict on sources: how many samples were signed, how many of them were kept back, and how often one was delivered again.
        """
    def kept_back(self, /) -> list[int]:
        """
        How many samples of each source were kept back and never delivered.
        """
    def merge(self, /, stored: bytes) -> None:
        """
        Adds what another worker or rank delivered, as it stored it.
        """
    def to_bytes(self, /) -> bytes:
        """
        All of it, to go on later or elsewhere.
        """

@final
class Policy:
    """
    A policy file: who may sign what. The first rule with a pattern for an artifact decides; one without a rule is refused.

    Parameters
    ----------
    path
        The file; keys and certificates that it names lie relative to it.
    artifact
        What the policy calls the model. Default: the last part of the model's path, or the ``organisation/name`` of a snapshot
        in the hub's cache. A model in memory has no path, so that it must be given.

    Raises
    ------
    sentry.PolicyFileError
        The policy cannot be used: malformed, or contradicting itself.
    """
    def __getnewargs_ex__(self, /) -> tuple[tuple[Path], Any]: ...
    def __new__(cls, /, path: str | PathLike[str], *, artifact: str | None = None) -> Policy: ...
    def __repr__(self, /) -> str: ...
    @property
    def artifact(self, /) -> str | None:
        """
        What the policy calls the model, if that was said.
        """
    def rule_for(self, /, artifact: str) -> str:
        """
        The name of the rule that decides for an artifact.

        Raises
        ------
        sentry.PolicyError
            No rule does.
        """

@final
class PrivateKey:
    """
    A private key to sign with. Its bytes never become visible, unless ``to_pem`` is asked for them.

    Parameters
    ----------
    path
        A file with the key in PEM form: PKCS#8, encrypted or not, or ``EC PRIVATE KEY``.
    password
        Opens an encrypted key.

    Raises
    ------
    sentry.KeyFileError
        The file holds no such key, or the password does not open it.
    """
    def __new__(cls, /, path: str | PathLike[str], password: str | None = None) -> PrivateKey: ...
    def __repr__(self, /) -> str: ...
    @staticmethod
    def generate(algorithm: str = "p256") -> PrivateKey:
        """
        A new key.

        Parameters
        ----------
        algorithm
            ``"p256"``, ``"p384"``, ``"p521"`` or ``"ed25519"``. Other tools read the first three.
        """
    @property
    def public_key(self, /) -> PublicKey:
        """
        The public half, for those who verify.
        """
    def to_pem(self, /, password: str | None = None) -> bytes:
        """
        The key as PKCS#8 PEM text, encrypted if a password is given.
        """
    def write(self, /, path: str | PathLike[str], password: str | None = None) -> None:
        """
        Writes the key to a new file that only its owner can read; an existing file is not replaced.
        """

@final
class PublicKey:
    """
    A public key that is trusted: whoever holds its private half may sign.

    Parameters
    ----------
    path
        A file with the key in PEM form (``-----BEGIN PUBLIC KEY-----``): ECDSA on P-256, P-384 or P-521, or Ed25519.
    timestamp_roots
        PEM files with the certificates of timestamp authorities (RFC 3161), whose word on a signature's time is reported.

    Raises
    ------
    sentry.KeyFileError
        The file holds no such key.
    """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...
    def __new__(cls, /, path: str | PathLike[str], *, timestamp_roots: str | PathLike[str] | SupportsGetItem[int, str | PathLike[str]] | None = None) -> PublicKey: ...
    def __reduce__(self, /) -> tuple[Any, tuple[str, list[Path] | None]]: ...
    def __repr__(self, /) -> str: ...
    @staticmethod
    def _restore(pem: str, timestamp_roots: SupportsGetItem[int, str | PathLike[str]] | None) -> PublicKey:
        """
        A key as another process had it.
        """
    @property
    def algorithm(self, /) -> str:
        """
        How the key signs, such as ``"ecdsa-p256-sha256"``.
        """
    @property
    def fingerprint(self, /) -> str:
        """
        Lower-case hex SHA-256 of the PEM text, by which signatures refer to the key.
        """
    @staticmethod
    def from_pem(pem: str) -> PublicKey:
        """
        A key from the text of a PEM file.
        """
    @property
    def pem(self, /) -> str:
        """
        The key as PEM text.
        """

@final
class Reader:
    """
    A model on disk whose signature holds, and of whose files nothing is known yet.
    """
    def __new__(cls, /, model: str | PathLike[str], signatures: SupportsGetItem[int, str | PathLike[str]], trust: PublicKey | Certificate | Policy) -> Reader: ...
    def load_files(self, /, files: SupportsGetItem[int, SignedFile], descriptors: SupportsGetItem[int, SupportsIndex]) -> Verification:
        """
        Copies files to open file descriptors, at the same offsets, and checks them. Until this returns, what lies there is
        not to be used.
        """
    def load_tensors(self, /, files: SupportsGetItem[int, SignedFile], regions: SupportsGetItem[int, SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex, SupportsIndex | None, SupportsIndex]]], streams: SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex]]) -> Verification:
        """
        Loads safetensors files to memory, and checks them: of each file, first and last byte of a region, the GPU that it goes to if it
        does, and the address there. ``streams`` are the handles of those that may still use that memory. Until this returns, what lies
        there is not to be used; if it fails, it is wiped.
        """
    def names(self, /) -> list[str]:
        """
        The names of all signed files.
        """
    def open_file(self, /, name: str) -> SignedFile:
        """
        Opens a signed file.
        """
    def open_weights(self, /, names: SupportsGetItem[int, str] | None) -> list[SignedFile]:
        """
        Opens the files that hold the weights.
        """
    def read(self, /, name: str) -> bytes:
        """
        Reads a whole file and checks it.
        """

@final
class Receipt:
    """
    What looking at samples has shown, to go with them until they are delivered.
    """
    def __len__(self, /) -> int:
        """
        How many samples it is about.
        """
    def __reduce__(self, /) -> tuple[Any, tuple[bytes]]: ...
    @staticmethod
    def from_bytes(stored: bytes) -> Receipt:
        """
        Reads what another process has written.
        """
    def part(self, /, start: SupportsIndex, end: SupportsIndex) -> Receipt:
        """
        What was found of some of its samples, by their places.
        """
    def with_others(self, /, others: SupportsGetItem[int, Receipt]) -> Receipt:
        """
        This receipt with the samples of others.
        """

@final
class SampleChecker:
    """
    A dataset whose signature holds, to check samples with.
    """
    def __new__(cls, /, dataset: str | PathLike[str], signatures: SupportsGetItem[int, str | PathLike[str]], contributors: SupportsGetItem[int, tuple[str | PathLike[str], PublicKey | Certificate | Policy]], trust: PublicKey | Certificate | Policy) -> SampleChecker: ...
    def check_tables(self, /) -> None:
        """
        Reads and checks all tables.
        """
    def epoch(self, /, stored: bytes | None = None) -> Epoch:
        """
        An epoch of which nothing was delivered, or the one that was stored.
        """
    @property
    def fields(self, /) -> list[tuple[str, str]]:
        """
        Name and Arrow type of each field.
        """
    @property
    def ids(self, /) -> tuple[str, str | None]:
        """
        Where ids come from: the name of a column, or ``"path"`` or ``"ordinal"`` with no column.
        """
    def ids_of(self, /, source: str) -> list[int] | None:
        """
        The ids of all samples of a source; nothing for one without a table.
        """
    def look(self, /, source: str, ids: SupportsGetItem[int, SupportsIndex], fields: SupportsGetItem[int, tuple[str, Incomplete | SupportsGetItem[int, Any]]], keep_back: bool) -> tuple[Receipt, list[tuple[int, str]]]:
        """
        Looks at samples of a source. Unless wrong ones are to be kept back, one of them is an error; else their places come back too, and
        what is wrong with each.
        """
    def look_at_stream(self, /, source: str, ids: SupportsGetItem[int, SupportsIndex] | None, stream: bytes | bytearray, keep_back: bool) -> tuple[Receipt, list[tuple[int, str]]]:
        """
        Looks at samples that are the rows of an Arrow stream; there are ids for them unless those are a column.
        """
    @property
    def name(self, /) -> str:
        """
        The dataset's name. Nothing was checked against it.
        """
    def receipt(self, /) -> Receipt:
        """
        A receipt of no sample.
        """
    @property
    def sources(self, /) -> list[tuple[str, int, bool]]:
        """
        Name and number of samples of each source, and whether it has a table.
        """
    @property
    def verification(self, /) -> Verification:
        """
        What is known of the signature. No sample was checked for it.
        """
    @property
    def version(self, /) -> int | None:
        """
        The version that the signer stated.
        """

@final
class SampleCollector:
    """
    Samples that are going to be signed.
    """
    def __new__(cls, /, ids: str | None = None) -> SampleCollector:
        """
        `ids` is `column NAME`, `path` or `ordinal`; by default a column `id`, or the number of the row.
        """
    def add(self, /, source: str, count: SupportsIndex, ids: SupportsGetItem[int, SupportsIndex] | None, fields: SupportsGetItem[int, tuple[str, str, Incomplete | SupportsGetItem[int, Any]]]) -> None:
        """
        Adds samples, whose fields have these names, types and values; their ids are the next numbers, if there are none.
        """
    def add_stream(self, /, source: str, source_column: str | None, stream: bytes | bytearray) -> None:
        """
        Adds the rows of an Arrow stream.
        """
    def sign(self, /, signing: Incomplete, *, signature: str | PathLike[str], name: str, version: SupportsIndex | None, tables: bool, contributors: SupportsGetItem[int, tuple[str | PathLike[str], PublicKey | Certificate | Policy]]) -> Signature:
        """
        Signs them, and writes the signature with its tables. Nothing can be added afterwards.
        """

@final
class Signature:
    """
    What was signed, and where the signature is.
    """
    def __repr__(self, /) -> str: ...
    @property
    def bytes(self, /) -> int:
        """
        Bytes that were hashed.
        """
    @property
    def files(self, /) -> int:
        """
        Files that are covered.
        """
    @property
    def notes(self, /) -> list[str]:
        """
        What other readers of the format cannot do with this signature.
        """
    @property
    def path(self, /) -> str:
        """
        The signature file.
        """
    @property
    def samples(self, /) -> int:
        """
        Samples of a dataset.
        """
    @property
    def subject(self, /) -> str:
        """
        The name under which the model was signed.
        """
    @property
    def tensors(self, /) -> int:
        """
        Tensors that are covered by a digest of their own.
        """
    @property
    def version(self, /) -> int | None:
        """
        The version that was stated.
        """

@final
class SignedFile:
    """
    A signed file that is open. Nothing of it has been checked but its header, and that only if ``is_annotated``.
    """
    def first_byte(self, /) -> int:
        """
        The first byte that a GPU has to hold to check the file: that of the first tensor, or of the file if it has a digest as a whole.
        """
    def header_json(self, /) -> bytes:
        """
        The header's JSON.
        """
    @property
    def is_annotated(self, /) -> bool:
        """
        Whether the signature has digests of its header and tensors, so that each can be checked alone.
        """
    def load_tensor(self, /, place: SupportsIndex, gpu: SupportsIndex | None, address: SupportsIndex, streams: SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex]]) -> None:
        """
        Loads one tensor, by its place among ``tensors``, to an address, of a GPU's memory or of this machine's, and checks it.
        """
    @property
    def name(self, /) -> str:
        """
        Its name in the model.
        """
    @property
    def size(self, /) -> int:
        """
        Its size in bytes.
        """
    def tensors(self, /) -> list[tuple[str, str, list[int], int, int]]:
        """
        The tensors in the order of their bytes: name, type, shape in elements, first and last byte in the file.
        """

@final
class TensorDigests:
    """
    Digests of the tensors of one model, collected in as many steps as there is memory for.
    """
    def __new__(cls, /, algorithm: str) -> TensorDigests: ...
    def add(self, /, views: SupportsGetItem[int, Incomplete], streams: SupportsGetItem[int, tuple[SupportsIndex, SupportsIndex]], device: str, share: SupportsFloat | SupportsIndex | None = None) -> None:
        """
        Hashes some more tensors where they lie; those in this machine's memory by `device`. Whoever calls keeps their memory alive
        meanwhile. `streams` has torch's current stream on each GPU, as pairs of GPU and handle; `share` is that of a GPU's multiprocessors.
        """
    def sign(self, /, subject: str, version: SupportsIndex | None, signing: Incomplete, signature: str | PathLike[str]) -> Signature:
        """
        Signs them, and writes the signature.
        """

@final
class TensorsCheck:
    """
    Signatures to check a model in memory with. They are checked in a thread of their own, beside whatever Python does next.
    """
    def __new__(cls, /, signatures: SupportsGetItem[int, str | PathLike[str]], weights: SupportsGetItem[int, str] | None, trust: PublicKey | Certificate | Policy) -> TensorsCheck:
        """
        Begins to check signatures.
        """
    def confirm(self, /, digests: TensorDigests, allow_missing: set[str]) -> Verification:
        """
        Compares a model in memory with what was signed.
        """
    def digests(self, /) -> TensorDigests:
        """
        Where the digests of the model's tensors are to be collected, once the signatures are known to hold.
        """

@final
class Verification:
    """
    What was verified. It exists only if everything it names has been checked; a failure is an exception.
    """
    def __repr__(self, /) -> str: ...
    @property
    def aliases(self, /) -> list[str]:
        """
        Names in the module that are not signed and share the memory of a tensor that is, such as tied weights.
        """
    @property
    def artifact(self, /) -> str | None:
        """
        The name under which the policy was asked.
        """
    @property
    def bytes(self, /) -> int:
        """
        Bytes that were read and hashed.
        """
    @property
    def checked_by(self, /) -> dict[str, str]:
        """
        How each loaded file was checked: ``"tensors"`` and ``"blake3"`` are digests that Sentry adds to a signature, others the
        algorithm of the digest that every OpenSSF tool checks. Empty unless files were loaded.
        """
    @property
    def files(self, /) -> int:
        """
        Files whose bytes were checked.
        """
    @property
    def fingerprint(self, /) -> str:
        """
        Lower-case hex SHA-256 of the signer's public key as PEM text, or of its certificate.
        """
    @property
    def missing(self, /) -> list[str]:
        """
        Signed tensors that the module lacks, which the caller allowed.
        """
    @property
    def not_covered(self, /) -> list[str]:
        """
        Non-persistent buffers that are not signed; nothing is known of them.
        """
    @property
    def payload_sha256(self, /) -> str:
        """
        Lower-case hex SHA-256 of the signed statement: pins exactly this signature's content.
        """
    @property
    def read_by(self, /) -> dict[str, int]:
        """
        How many bytes of tensors were read in which way: ``"page cache"``, and around it ``"io_uring"``, ``"O_DIRECT"`` or
        ``"cuFile"``. Empty unless tensors were loaded.
        """
    @property
    def rule(self, /) -> str | None:
        """
        The rule of the policy that decided, if one did.
        """
    @property
    def samples(self, /) -> int:
        """
        Samples of a dataset that were checked.
        """
    @property
    def signer(self, /) -> str:
        """
        Who signed, for people: the first signer, if there are several.
        """
    @property
    def signers(self, /) -> list[str]:
        """
        All signers, for people.
        """
    @property
    def subject(self, /) -> str:
        """
        The name under which the model was signed. Nothing was checked against it.
        """
    @property
    def tensors(self, /) -> int:
        """
        Tensors whose bytes were checked against a digest of their own.
        """
    @property
    def timestamp(self, /) -> str | None:
        """
        When the signature existed at the latest, by a trusted timestamp authority (RFC 3339).
        """
    @property
    def unsigned_files(self, /) -> list[str]:
        """
        Files that lie in the model and are not signed, which the caller allowed; in a dataset those that hold no samples.
        """
    @property
    def version(self, /) -> int | None:
        """
        The version that the signer stated.
        """

def list_images(folder: str | PathLike[str]) -> list[tuple[str, str, str | None]]:
    """
    Path, source and label of each image of a folder.
    """

def path_id(path: str) -> int:
    """
    The id of a sample that is known by its path or key.
    """

def sign_dataset_files(dataset: str | PathLike[str], signing: Incomplete, *, signature: str | PathLike[str] | None, name: str | None, version: SupportsIndex | None, id: str | None, source: str | None, tables: bool, contributors: SupportsGetItem[int, tuple[str | PathLike[str], PublicKey | Certificate | Policy]]) -> Signature:
    """
    Signs the samples of a folder or a file.
    """

def sign_files(model: str | PathLike[str], signing: Incomplete, *, signature: str | PathLike[str] | None, hash: str, shard_size: SupportsIndex | None, ignore: SupportsGetItem[int, str], allow_symlinks: bool, version: SupportsIndex | None, annotate: bool) -> Signature:
    """
    Signs a directory or a file. Paths to ignore are relative to the model.
    """

def verify_dataset_files(dataset: str | PathLike[str], trust: PublicKey | Certificate | Policy, *, signatures: SupportsGetItem[int, str | PathLike[str]], source: str | None, contributors: SupportsGetItem[int, tuple[str | PathLike[str], PublicKey | Certificate | Policy]]) -> Verification:
    """
    Verifies all samples of a folder or a file.
    """

def verify_files(model: str | PathLike[str], trust: PublicKey | Certificate | Policy, *, signatures: SupportsGetItem[int, str | PathLike[str]], ignore: SupportsGetItem[int, str], allow_unsigned: bool) -> Verification:
    """
    Verifies a directory or a file.
    """
