//! Where a signature lies, and how it is read and written.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use sentry_bundle::BundleError;
use sentry_bundle::limits::MAX_BUNDLE_BYTES;
use sentry_manifest::{ManifestError, ModelPath, ModelTree, printable_path};
use sentry_trust::{SignedStatement, UnverifiedBundle, Verified, Verifier, VerifyError, verify_together};

use crate::Error;
use crate::input::open_without_waiting;

/// Name of the signature inside a directory.
pub const SIGNATURE_NAME: &str = "model.sig";

/// Where the signature of a model lies unless its user says otherwise: `model.sig` inside a directory, `NAME.sig`
/// beside a single file.
pub fn default_signature_path(model: &Path) -> PathBuf {
    if model.is_dir() {
        return model.join(SIGNATURE_NAME);
    }
    let mut name = model.file_name().map(OsString::from).unwrap_or_default();
    name.push(".sig");
    model.with_file_name(name)
}

/// Reads a bundle, at most [`MAX_BUNDLE_BYTES`] of it.
///
/// # Errors
/// [`Error::SignatureNotFound`], [`Error::Io`] or [`Error::Verify`].
pub fn read_bundle(path: &Path) -> Result<UnverifiedBundle, Error> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::SignatureNotFound { path: path.to_owned() },
        _ => Error::Io { action: "read the signature", path: path.to_owned(), source },
    };
    let file = open_without_waiting(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        let path = printable_path(path);
        return Err(ManifestError::SpecialFile { path, kind: "directory, pipe or device" }.into());
    }
    if metadata.len() > MAX_BUNDLE_BYTES {
        return Err(BundleError::TooLarge { found: metadata.len() }.into());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(UnverifiedBundle::parse(&bytes)?)
}

/// Where the signatures of a model lie: those that are named, else the one at its default place.
pub fn signature_paths(model: &Path, named: &[PathBuf]) -> Vec<PathBuf> {
    if named.is_empty() { vec![default_signature_path(model)] } else { named.to_vec() }
}

/// Reads signatures and verifies them together.
///
/// # Errors
/// As [`read_bundle`], and [`Error::Verify`].
pub fn read_verified<S: SignedStatement>(signatures: &[PathBuf], verifier: &dyn Verifier) -> Result<Verified<S>, Error> {
    let read = |(number, path): (usize, &PathBuf)| match read_bundle(path) {
        Err(Error::Verify(error)) if signatures.len() > 1 => {
            Err(Error::Verify(VerifyError::OfSignature { number, source: Box::new(error) }))
        }
        result => result,
    };
    let bundles = (1..).zip(signatures).map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(verify_together(bundles, verifier)?)
}

/// The signature's path relative to a model's directory, if it lies inside.
///
/// # Errors
/// [`Error::Io`] if a directory cannot be resolved, [`Error::Manifest`] for a name that no manifest can have.
pub fn path_inside(tree: &ModelTree, signature: &Path) -> Result<Option<ModelPath>, Error> {
    if tree.is_file() {
        return Ok(None);
    }
    let resolve = |path: &Path| {
        let absolute = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        absolute.canonicalize().map_err(|source| Error::Io { action: "resolve", path: path.to_owned(), source })
    };
    let (Some(parent), Some(name)) = (signature.parent(), signature.file_name()) else {
        return Ok(None);
    };
    let resolved = resolve(parent)?.join(name);
    match resolved.strip_prefix(resolve(tree.location())?) {
        Ok(inside) => match inside.to_str() {
            Some(inside) => Ok(Some(ModelPath::new(inside)?)),
            None => Err(ManifestError::NonUtf8Name { directory: ".".to_owned(), name: printable_path(inside) }.into()),
        },
        Err(_) => Ok(None),
    }
}

/// Refuses to replace a file that is no signature.
///
/// # Errors
/// [`Error::WouldOverwrite`] or [`Error::Io`].
pub fn check_replaceable(path: &Path) -> Result<(), Error> {
    match read_bundle(path) {
        Ok(_) | Err(Error::SignatureNotFound { .. }) => Ok(()),
        Err(Error::Verify(_) | Error::Manifest(_)) => Err(Error::WouldOverwrite { path: path.to_owned() }),
        Err(error) => Err(error),
    }
}

/// Writes a signature so that at any moment there is the old one, none, or the whole new one: into a file without
/// a name, synced, then given its name.
///
/// # Errors
/// [`Error::Io`]; nothing is left behind then.
pub fn write_signature(path: &Path, text: &str) -> Result<(), Error> {
    write_atomically(path, text.as_bytes(), "write the signature")
}

/// Writes a file like a signature; `action` completes "cannot …" in an error.
///
/// # Errors
/// [`Error::Io`]; nothing is left behind then.
pub fn write_atomically(path: &Path, bytes: &[u8], action: &'static str) -> Result<(), Error> {
    let io = |source: io::Error| Error::Io { action, path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
    let directory = File::open(folder).map_err(io)?;
    match write_nameless(&directory, name.as_ref(), bytes) {
        // Not every file system has files without a name, and not every sandbox has the /proc that names them.
        Err(error) if is_unsupported(&error) => write_renamed(&directory, name.as_ref(), bytes),
        result => result,
    }
    .map_err(io)?;
    directory.sync_all().map_err(io)
}

const MODE: Mode = Mode::from_raw_mode(0o644);

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL))
}

/// Into a file that has no name until it is whole.
fn write_nameless(directory: &File, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::from(rustix::fs::openat(directory, ".", OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, MODE)?);
    fill(&file, bytes)?;
    give_name(&file, directory, name)
}

/// Into a file with a temporary name, which is then renamed.
fn write_renamed(directory: &File, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, &temporary, flags, MODE)?);
    let renamed = fill(&file, bytes).and_then(|()| Ok(rustix::fs::renameat(directory, &temporary, directory, name)?));
    renamed.inspect_err(|_| remove(directory, &temporary))
}

fn fill(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Links a nameless file to its name; over an existing file, by way of a temporary name.
fn give_name(file: &File, directory: &File, name: &Path) -> io::Result<()> {
    let link = |to: &Path| rustix::fs::linkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), directory, to, AtFlags::SYMLINK_FOLLOW);
    match link(name) {
        Err(rustix::io::Errno::EXIST) => {}
        result => return Ok(result?),
    }
    let temporary = temporary_name();
    link(temporary.as_ref())?;
    let renamed = rustix::fs::renameat(directory, &temporary, directory, name);
    Ok(renamed.inspect_err(|_| remove(directory, &temporary))?)
}

/// Removes a temporary file; that this can fail as well changes nothing of the error that led here.
fn remove(directory: &File, temporary: &str) {
    let _ = rustix::fs::unlinkat(directory, temporary, AtFlags::empty());
}

/// A name that nobody else uses.
fn temporary_name() -> String {
    format!(".sentry-{:016x}.tmp", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.sig");
        for text in ["first", "the second, which is longer", "3"] {
            write_signature(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        assert!(write_signature(&dir.path().join("no/such/folder/x.sig"), "x").is_err());
    }
}
