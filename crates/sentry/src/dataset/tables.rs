//! Sample tables beside a signature.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sentry_hash::table::Table;
use sentry_hash::{Cpu, Digest};
use sentry_manifest::{DatasetManifest, ModelPath, TableDigests};
use sentry_trust::{Difference, DifferenceKind, TableFile, VerifyError};

use super::{TABLE_SUFFIX, folder_of};
use crate::Error;
use crate::input::open_without_waiting;
use crate::signature_file::write_atomically;

/// Letters of a source's name, and of the digest, in the name of its table.
const NAME_LETTERS: usize = 64;
const DIGEST_LETTERS: usize = 16;

/// What a statement says of a table that will lie beside `signature`.
pub fn describe(signature: &Path, source: &str, table: &Table) -> Result<TableDigests, Error> {
    let parts = table.part_digests(&Cpu::new()).map_err(sentry_manifest::ListError::from)?;
    Ok(TableDigests { path: name(signature, source, &parts)?, size: table.as_bytes().len() as u64, parts })
}

/// `dataset.train.0123456789abcdef.samples`. With part of a digest, so that a new table is another file than the one that an old
/// signature still names.
fn name(signature: &Path, source: &str, parts: &[Digest]) -> Result<ModelPath, Error> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    let source: String = source.chars().take(NAME_LETTERS).map(plain).collect();
    let all: Vec<u8> = parts.iter().flat_map(|digest| digest.as_bytes().to_vec()).collect();
    let digest = sentry_hash::Algorithm::Blake3.digest(&all).to_hex();
    Ok(ModelPath::new(&format!("{}{source}.{}{TABLE_SUFFIX}", prefix(signature)?, &digest[..DIGEST_LETTERS]))?)
}

/// What the names of all tables of a signature begin with.
fn prefix(signature: &Path) -> Result<String, Error> {
    let name = signature.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(Error::Options { reason: "the name of a dataset's signature is UTF-8" })?;
    Ok(format!("{}.", name.strip_suffix(".sig").unwrap_or(name)))
}

/// Writes a table beside the signature. One of the same name that is there has the same content, or is damaged.
pub fn write(signature: &Path, described: &TableDigests, table: &Table) -> Result<(), Error> {
    write_atomically(&folder_of(signature).join(described.path.as_str()), table.as_bytes(), "write the table")
}

/// Removes tables beside the signature that it does not name. Those of another signature have other names.
pub fn remove_others(signature: &Path, manifest: &DatasetManifest) -> Result<(), Error> {
    let folder = folder_of(signature);
    let io = |source: io::Error| Error::Io { action: "remove old tables in", path: folder.to_owned(), source };
    let named: BTreeSet<&str> = manifest.sources().iter().filter_map(|source| Some(source.table.as_ref()?.path.as_str())).collect();
    let prefix = prefix(signature)?;
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let is_old = name.to_str().is_some_and(|name| is_table_of(&prefix, name) && !named.contains(name));
        if is_old && entry.file_type().map_err(io)?.is_file() {
            std::fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

/// Whether a name is one that [`name`] makes for signatures with this prefix.
fn is_table_of(prefix: &str, name: &str) -> bool {
    let Some((source, digest)) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(TABLE_SUFFIX)?.rsplit_once('.')) else {
        return false;
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    !source.is_empty()
        && source.chars().all(is_plain)
        && digest.len() == DIGEST_LETTERS
        && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Opens the tables of a statement that lie beside its signature.
///
/// # Errors
/// [`VerifyError::DatasetDiffers`] for one that is not there or is no file, [`Error::Io`].
pub fn open(signature: &Path, manifest: &DatasetManifest) -> Result<BTreeMap<String, Box<dyn TableFile>>, Error> {
    let mut files: BTreeMap<String, Box<dyn TableFile>> = BTreeMap::new();
    for source in manifest.sources() {
        if let Some(table) = &source.table {
            files.insert(source.name.clone(), Box::new(StoredTable(open_one(signature, table)?)));
        }
    }
    Ok(files)
}

/// Reads the whole tables of a statement. Nothing in them was checked.
///
/// # Errors
/// As [`open`], and [`VerifyError::Table`] for one that cannot be a table.
pub fn read(signature: &Path, manifest: &DatasetManifest) -> Result<BTreeMap<String, Table>, Error> {
    let mut tables = BTreeMap::new();
    for source in manifest.sources() {
        let Some(signed) = &source.table else { continue };
        let unreadable = |source| VerifyError::TableUnreadable { path: signed.path.clone(), source };
        let wrong = |source| VerifyError::Table { path: signed.path.clone(), source };
        let mut bytes = Vec::new();
        open_one(signature, signed)?.take(signed.size + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 != signed.size {
            return Err(wrong(sentry_hash::HashError::TableLength { found: bytes.len() }).into());
        }
        tables.insert(source.name.clone(), Table::parse(bytes).map_err(wrong)?);
    }
    Ok(tables)
}

fn open_one(signature: &Path, table: &TableDigests) -> Result<File, Error> {
    let path = folder_of(signature).join(table.path.as_str());
    let missing = || VerifyError::DatasetDiffers(vec![Difference::new(DifferenceKind::MissingFile, table.path.as_str())]);
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::from(missing()),
        _ => Error::Io { action: "read the table", path: path.clone(), source },
    };
    let file = open_without_waiting(&path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    Ok(file)
}

struct StoredTable(File);

impl TableFile for StoredTable {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}
