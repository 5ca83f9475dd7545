//! The files of a model, listed and opened beneath one handle.
//!
//! Nothing is opened by an absolute path after [`ModelTree::open`], and no symbolic link is followed unless it
//! was asked for or is a hub cache's own. So a directory that is renamed or swapped while it is read does not lead
//! elsewhere.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::limits::{MAX_DIRECTORY_DEPTH, MAX_RESOURCES};
use crate::manifest::check_unicode_twins;
use crate::{EntryKind, IgnoreRules, ManifestError, ModelPath, ResourcePath};

/// A model on disk: a directory, or one file.
#[derive(Debug)]
pub struct ModelTree {
    /// As the caller named it; for messages only.
    location: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory { handle: OwnedFd, hub_blobs: Option<OwnedFd> },
    File { name: ModelPath, file: File },
}

/// A file that is there, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    /// Its name in the model.
    pub path: ResourcePath,
    /// Its size in bytes when it was listed.
    pub size: u64,
    /// What it was when it was listed; the file that is opened later must be that one.
    stamp: FileStamp,
    way: Way,
}

/// How a found file is opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The model is this file, already open.
    Model,
    /// No link on the way.
    Plain,
    /// Through links that stay inside the model.
    Links,
    /// A file of a hub cache's `blobs` folder.
    HubBlob(String),
}

/// An open file of a model, and what it was when it was opened.
#[derive(Debug)]
pub struct ModelFile {
    /// The handle.
    pub file: Arc<File>,
    /// Size in bytes.
    pub size: u64,
    stamp: FileStamp,
}

/// What changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

const OPEN_FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

impl ModelTree {
    /// Opens a directory or a single file. `location` itself may be a symbolic link.
    ///
    /// # Errors
    /// [`ManifestError::Io`], and [`ManifestError::SpecialFile`] for anything else.
    pub fn open(location: &Path) -> Result<Self, ManifestError> {
        let error = |source: Errno| io_error(location, source);
        let handle = rustix::fs::open(location, OPEN_FILE, Mode::empty()).map_err(error)?;
        let kind = match kind_of(&rustix::fs::fstat(&handle).map_err(error)?) {
            FileType::Directory => Kind::Directory { hub_blobs: hub_blobs(&handle), handle },
            FileType::RegularFile => Kind::File { name: ModelPath::new(&base_name(location)?)?, file: File::from(handle) },
            other => return Err(ManifestError::SpecialFile { path: crate::printable_path(location), kind: describe(other) }),
        };
        Ok(Self { location: location.to_owned(), kind })
    }

    /// Where the model lies, as the caller named it.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// Whether the model is one file rather than a directory.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// The last component of the model's path, with `.` and `..` resolved.
    ///
    /// # Errors
    /// [`ManifestError::Io`], and [`ManifestError::NonUtf8Name`].
    pub fn name(&self) -> Result<String, ManifestError> {
        base_name(&self.location)
    }

    /// Lists all files but those that `rules` hide, in the order of their names.
    ///
    /// # Errors
    /// For whatever cannot be covered by a signature: [`ManifestError::Symlink`] and its kin,
    /// [`ManifestError::SpecialFile`], [`ManifestError::NonUtf8Name`], [`ManifestError::UnsafePath`],
    /// [`ManifestError::AmbiguousNames`], [`ManifestError::TooManyResources`], [`ManifestError::TooDeep`] or
    /// [`ManifestError::Io`].
    pub fn scan(&self, rules: &IgnoreRules, follow_links: bool) -> Result<Vec<FoundFile>, ManifestError> {
        self.scan_up_to(MAX_RESOURCES, rules, follow_links)
    }

    /// As [`ModelTree::scan`], for up to `most` files.
    ///
    /// # Errors
    /// As [`ModelTree::scan`].
    pub fn scan_up_to(&self, most: usize, rules: &IgnoreRules, follow_links: bool) -> Result<Vec<FoundFile>, ManifestError> {
        let (handle, hub_blobs) = match &self.kind {
            Kind::File { name, file } => {
                let stat = rustix::fs::fstat(file).map_err(|error| self.io(name.as_str(), error.into()))?;
                return Ok(vec![FoundFile::new(ResourcePath::File(name.clone()), &stat, Way::Model)]);
            }
            Kind::Directory { handle, hub_blobs } => (handle, hub_blobs.as_ref()),
        };
        let mut scan =
            Scan { tree: self, root: handle, hub_blobs, rules, follow_links, most, ancestors: Vec::new(), found: BTreeSet::new() };
        let top = rustix::fs::openat(handle, ".", OPEN_DIRECTORY, Mode::empty()).map_err(|error| self.io("", error.into()))?;
        scan.directory(top, "", 0)?;
        check_unicode_twins(scan.found.iter().filter_map(|file| match &file.path {
            ResourcePath::File(path) => Some(path),
            ResourcePath::Model => None,
        }))?;
        Ok(scan.found.into_iter().collect())
    }

    /// Finds one file by its name, without listing the others.
    ///
    /// # Errors
    /// As [`ModelTree::scan`]; [`ManifestError::Io`] with [`io::ErrorKind::NotFound`] if it is not there.
    pub fn find(&self, path: &ResourcePath, follow_links: bool) -> Result<FoundFile, ManifestError> {
        let (handle, hub_blobs, path) = match (&self.kind, path) {
            (Kind::File { name, file }, path) => {
                if path.as_str() != name.as_str() && *path != ResourcePath::Model {
                    return Err(self.io(path.as_str(), io::ErrorKind::NotFound.into()));
                }
                let stat = rustix::fs::fstat(file).map_err(|error| self.io(name.as_str(), error.into()))?;
                return Ok(FoundFile::new(ResourcePath::File(name.clone()), &stat, Way::Model));
            }
            (Kind::Directory { .. }, ResourcePath::Model) => return Err(self.io("", io::ErrorKind::IsADirectory.into())),
            (Kind::Directory { handle, hub_blobs }, ResourcePath::File(path)) => (handle, hub_blobs.as_ref(), path),
        };
        let (folders, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
        let rules = IgnoreRules::default();
        let scan = Scan {
            tree: self,
            root: handle,
            hub_blobs,
            rules: &rules,
            follow_links,
            most: 1,
            ancestors: Vec::new(),
            found: BTreeSet::new(),
        };
        let io = |source| self.io(path.as_str(), source);
        let folder = match open_folder(handle, folders) {
            // A link on the way: only the kernel can follow it safely.
            Err(Errno::LOOP | Errno::NOTDIR) if follow_links => None,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(ManifestError::SpecialFile { path: path.to_string(), kind: "path through something that is no folder" });
            }
            folder => Some(folder.map_err(|error| io(error.into()))?),
        };
        let Some(folder) = folder else {
            let (stat, way) = scan.link(path)?;
            return Ok(FoundFile::new(ResourcePath::File(path.clone()), &stat, way));
        };
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| io(error.into()))?;
        let (stat, way) = match kind_of(&stat) {
            FileType::RegularFile => (stat, Way::Plain),
            FileType::Symlink => match scan.hub_blob(&folder, name, path)? {
                Some(blob) => blob,
                None => scan.link(path)?,
            },
            other => return Err(ManifestError::SpecialFile { path: path.to_string(), kind: describe(other) }),
        };
        Ok(FoundFile::new(ResourcePath::File(path.clone()), &stat, way))
    }

    /// Opens a file that [`ModelTree::scan`] or [`ModelTree::find`] has found.
    ///
    /// # Errors
    /// [`ManifestError::ChangedWhileRead`], [`ManifestError::Symlink`] or [`ManifestError::SpecialFile`] if it is no
    /// longer the file that was found; [`ManifestError::Io`].
    pub fn open_file(&self, found: &FoundFile) -> Result<ModelFile, ManifestError> {
        let name = found.path.as_str();
        let file = match (&self.kind, &found.way) {
            (Kind::File { file, .. }, _) => file.try_clone(),
            (Kind::Directory { handle, .. }, Way::Plain | Way::Model) => open_plain(handle, name).map(File::from),
            (Kind::Directory { handle, .. }, Way::Links) => open_links(handle, name, OPEN_FILE).map(File::from).map_err(Into::into),
            (Kind::Directory { hub_blobs, .. }, Way::HubBlob(blob)) => match hub_blobs {
                Some(blobs) => open_plain(blobs, blob).map(File::from),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
        .map_err(|source| match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NOTDIR) => changed(&found.path, "it vanished after the model was listed"),
            Some(Errno::LOOP) => ManifestError::Symlink { path: found.path.in_model() },
            _ => self.io(name, source),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|error| self.io(name, error.into()))?;
        if kind_of(&stat) != FileType::RegularFile {
            return Err(ManifestError::SpecialFile { path: found.path.to_string(), kind: describe(kind_of(&stat)) });
        }
        found.stamp.check(&found.path, &file)?;
        Ok(ModelFile { stamp: found.stamp, size: found.stamp.size, file: Arc::new(file) })
    }

    /// An error about reading the file `name` of this model.
    pub(crate) fn io(&self, name: &str, source: io::Error) -> ManifestError {
        let path = if self.is_file() || name.is_empty() { self.location.clone() } else { self.location.join(name) };
        ManifestError::Io { path, source }
    }
}

impl FoundFile {
    fn new(path: ResourcePath, stat: &Stat, way: Way) -> Self {
        let stamp = FileStamp::new(stat);
        Self { path, size: stamp.size, stamp, way }
    }

    /// Whether the file is reached through a symbolic link of the model's own; a hub cache's do not count.
    pub fn is_link(&self) -> bool {
        self.way == Way::Links
    }
}

impl ModelFile {
    pub(crate) fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Checks, after it was read, that nobody has written to the file or replaced it.
    ///
    /// # Errors
    /// [`ManifestError::ChangedWhileRead`].
    pub fn check_unchanged(&self, path: &ResourcePath) -> Result<(), ManifestError> {
        self.stamp.check(path, &self.file)
    }
}

impl FileStamp {
    fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Checks that an open file is still what it was.
    pub(crate) fn check(&self, path: &ResourcePath, file: &File) -> Result<(), ManifestError> {
        let now = match rustix::fs::fstat(file) {
            Ok(stat) => Self::new(&stat),
            Err(error) => return Err(changed(path, &error.to_string())),
        };
        if (now.device, now.inode) != (self.device, self.inode) {
            return Err(changed(path, "it was replaced by another file"));
        }
        if now.size != self.size {
            return Err(changed(path, &format!("its size was {} bytes, now it is {}", self.size, now.size)));
        }
        if now != *self {
            return Err(changed(path, "its modification time is another"));
        }
        Ok(())
    }
}

pub(crate) fn changed(path: &ResourcePath, what: &str) -> ManifestError {
    ManifestError::ChangedWhileRead { path: path.in_model(), what: what.to_owned() }
}

/// One walk through a directory.
struct Scan<'a> {
    tree: &'a ModelTree,
    root: &'a OwnedFd,
    hub_blobs: Option<&'a OwnedFd>,
    rules: &'a IgnoreRules,
    follow_links: bool,
    /// How many files there may be.
    most: usize,
    /// Device and inode of the directories from the top to the one being listed.
    ancestors: Vec<(u64, u64)>,
    found: BTreeSet<FoundFile>,
}

impl Scan<'_> {
    /// Lists the directory open as `handle`, whose path ends in `/` unless it is the top.
    fn directory(&mut self, handle: OwnedFd, prefix: &str, depth: usize) -> Result<(), ManifestError> {
        if depth > MAX_DIRECTORY_DEPTH {
            return Err(ManifestError::TooDeep { path: crate::printable(prefix) });
        }
        let io = |error: Errno| self.tree.io(prefix, error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&handle).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(utf8(prefix, name)?);
            }
            if names.len() > self.most {
                return Err(ManifestError::TooManyResources);
            }
        }
        let stat = rustix::fs::fstat(&handle).map_err(io)?;
        self.ancestors.push((stat.st_dev, stat.st_ino));
        names.into_iter().try_for_each(|name| self.entry(&handle, prefix, &name, depth))?;
        self.ancestors.pop();
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, prefix: &str, name: &str, depth: usize) -> Result<(), ManifestError> {
        let full = format!("{prefix}{name}");
        let path = ModelPath::new(&full)?;
        let io = |error: Errno| self.tree.io(&full, error.into());
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        let kind = kind_of(&stat);
        if kind == FileType::Directory {
            if self.rules.hides(&path, EntryKind::Directory).is_some() {
                return Ok(());
            }
            let handle = rustix::fs::openat(directory, name, OPEN_DIRECTORY, Mode::empty()).map_err(io)?;
            return self.directory(handle, &format!("{full}/"), depth + 1);
        }
        let blob = if kind == FileType::Symlink { self.hub_blob(directory, name, &path)? } else { None };
        let entry_kind = if kind == FileType::RegularFile || blob.is_some() { EntryKind::File } else { EntryKind::Other };
        if self.rules.hides(&path, entry_kind).is_some() {
            return Ok(());
        }
        let (stat, way) = match kind {
            FileType::RegularFile => (stat, Way::Plain),
            FileType::Symlink => match blob {
                Some(blob) => blob,
                None => self.link(&path)?,
            },
            other => return Err(ManifestError::SpecialFile { path: path.to_string(), kind: describe(other) }),
        };
        if self.found.len() == self.most {
            return Err(ManifestError::TooManyResources);
        }
        self.found.insert(FoundFile::new(ResourcePath::File(path), &stat, way));
        Ok(())
    }

    /// The file of a hub cache that a symbolic link stands for, if it is a link of the cache's own.
    fn hub_blob(&self, directory: &OwnedFd, name: &str, path: &ModelPath) -> Result<Option<(Stat, Way)>, ManifestError> {
        let io = |error: Errno| self.tree.io(path.as_str(), error.into());
        let Some(blobs) = self.hub_blobs else { return Ok(None) };
        let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(io)?;
        let Some(blob) = hub_blob_name(path, target.to_bytes()) else { return Ok(None) };
        let stat = rustix::fs::statat(blobs, blob, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        let is_file = kind_of(&stat) == FileType::RegularFile;
        Ok(is_file.then(|| (stat, Way::HubBlob(blob.to_owned()))))
    }

    /// The file inside the model that a symbolic link leads to, if links are followed.
    fn link(&self, path: &ModelPath) -> Result<(Stat, Way), ManifestError> {
        let io = |error: Errno| self.tree.io(path.as_str(), error.into());
        if !self.follow_links {
            return Err(ManifestError::Symlink { path: path.clone() });
        }
        let handle = open_links(self.root, path.as_str(), OFlags::PATH | OFlags::CLOEXEC).map_err(|error| match error {
            Errno::XDEV => ManifestError::SymlinkEscape { path: path.clone() },
            Errno::LOOP => ManifestError::SymlinkCycle { path: path.clone() },
            other => io(other),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(io)?;
        match kind_of(&stat) {
            FileType::RegularFile => Ok((stat, Way::Links)),
            FileType::Directory if self.ancestors.contains(&(stat.st_dev, stat.st_ino)) => {
                Err(ManifestError::SymlinkCycle { path: path.clone() })
            }
            FileType::Directory => Err(ManifestError::SpecialFile { path: path.to_string(), kind: "symbolic link to a directory" }),
            other => Err(ManifestError::SpecialFile { path: path.to_string(), kind: describe(other) }),
        }
    }
}

fn utf8(prefix: &str, name: &[u8]) -> Result<String, ManifestError> {
    String::from_utf8(name.to_vec()).map_err(|_| ManifestError::NonUtf8Name {
        directory: if prefix.is_empty() { ".".to_owned() } else { crate::printable(prefix) },
        name: crate::printable(&String::from_utf8_lossy(name)),
    })
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "special file",
    }
}

fn io_error(path: &Path, source: Errno) -> ManifestError {
    ManifestError::Io { path: path.to_owned(), source: source.into() }
}

/// Opens `name` beneath `directory`, component by component, following no link.
fn open_plain(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    let folder = open_folder(directory, folders)?;
    Ok(rustix::fs::openat(folder, file, OPEN_FILE | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens the folder at `path` beneath `directory`, component by component, following no link.
fn open_folder(directory: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let top = rustix::fs::openat(directory, ".", OPEN_DIRECTORY, Mode::empty())?;
    path.split('/')
        .filter(|folder| !folder.is_empty())
        .try_fold(top, |parent, folder| rustix::fs::openat(&parent, folder, OPEN_DIRECTORY, Mode::empty()))
}

/// Opens `name` beneath `directory`, following links that stay beneath it. Only the kernel can promise that
/// without a race, so this needs Linux 5.6.
fn open_links(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    const TRIES: usize = 100;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            // A directory on the way was renamed while the kernel looked.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// The `blobs` folder of a hub cache, if `model` is one of its snapshots:
/// `models--ORG--NAME/{blobs/HASH, snapshots/REVISION/FILE -> ../../blobs/HASH}`.
fn hub_blobs(model: &OwnedFd) -> Option<OwnedFd> {
    let parent = rustix::fs::statat(model, "..", AtFlags::empty()).ok()?;
    let snapshots = rustix::fs::statat(model, "../../snapshots", AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let same = (parent.st_dev, parent.st_ino) == (snapshots.st_dev, snapshots.st_ino);
    if !same {
        return None;
    }
    rustix::fs::openat(model, "../../blobs", OPEN_DIRECTORY, Mode::empty()).ok()
}

/// The blob that a hub cache's link at `path` names, if the link has exactly the cache's form.
fn hub_blob_name<'a>(path: &ModelPath, target: &'a [u8]) -> Option<&'a str> {
    let depth = path.as_str().matches('/').count();
    let up = format!("{}../../blobs/", "../".repeat(depth));
    let name = std::str::from_utf8(target).ok()?.strip_prefix(&up)?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then_some(name)
}

/// The last component of a path, with `.` and `..` resolved.
fn base_name(path: &Path) -> Result<String, ManifestError> {
    let resolved;
    let name = match path.file_name() {
        Some(name) => name,
        None => {
            resolved = path.canonicalize().map_err(|source| ManifestError::Io { path: path.to_owned(), source })?;
            resolved.file_name().unwrap_or(OsStr::new("model"))
        }
    };
    utf8("", name.as_bytes())
}
