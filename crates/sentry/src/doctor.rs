//! What a load would make use of: this machine, and the files of a model.

use std::path::Path;

use sentry_load::{Machine, Outlook, Search};
use sentry_manifest::{FoundFile, IgnoreRules, ManifestError, ModelTree, ResourcePath};

use crate::{Device, Error};

/// What was found.
#[derive(Debug)]
pub struct Diagnosis {
    /// What this machine has, and lacks.
    pub machine: Machine,
    /// The GPU that a load would go to, by its number, if it can be used.
    pub gpu: Option<usize>,
    /// How the files of the model would be read now, in the order of their names.
    pub files: Vec<(ResourcePath, Outlook)>,
}

/// Tries what a load to `device` uses, and asks how the files of a model would be read. With [`Device::Auto`] all GPUs are tried, with
/// [`Device::Cpu`] none. The model's signature is not looked at, and nothing is loaded.
///
/// # Errors
/// [`Error::Manifest`] if the model cannot be listed, or a file of it not be opened. That something is missing in this machine is none.
pub fn diagnose(model: Option<&Path>, device: Device) -> Result<Diagnosis, Error> {
    let (search, wanted) = match device {
        Device::Cpu => (Search::NoGpu, None),
        Device::Cuda(ordinal) => (Search::Gpu(ordinal), Some(ordinal)),
        Device::Auto => (Search::AllGpus, Some(0)),
    };
    let machine = Machine::examine(search);
    let gpu = wanted.filter(|&ordinal| machine.usable_gpu(ordinal).is_some());
    let files = model.map(outlooks).transpose()?.unwrap_or_default();
    Ok(Diagnosis { machine, gpu, files })
}

fn outlooks(model: &Path) -> Result<Vec<(ResourcePath, Outlook)>, Error> {
    let tree = ModelTree::open(model)?;
    let outlook = |found: &FoundFile| {
        let file = tree.open_file(found)?.file;
        let path = if tree.is_file() { model.to_owned() } else { model.join(found.path.as_str()) };
        let outlook = Outlook::of(file).map_err(|source| ManifestError::Io { path, source })?;
        Ok((found.path.clone(), outlook))
    };
    tree.scan(&IgnoreRules::default(), true)?.iter().map(outlook).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_model_and_need_no_signature() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("weights")).unwrap();
        std::fs::write(folder.path().join("weights/one.bin"), [7; 5000]).unwrap();
        std::fs::write(folder.path().join("empty"), []).unwrap();
        let Diagnosis { gpu, files, .. } = diagnose(Some(folder.path()), Device::Cpu).unwrap();
        assert_eq!(gpu, None);
        let found: Vec<_> = files.iter().map(|(path, outlook)| (path.as_str(), outlook.size)).collect();
        assert_eq!(found, [("empty", 0), ("weights/one.bin", 5000)]);
        assert!(files.iter().all(|(_, outlook)| outlook.through_cache + outlook.around_cache == outlook.size));
        let file = diagnose(Some(&folder.path().join("empty")), Device::Cpu).unwrap().files;
        assert_eq!(file.len(), 1);
    }

    #[test]
    fn a_model_that_is_not_there_is_an_error() {
        assert!(matches!(diagnose(Some(Path::new("/nowhere")), Device::Cpu), Err(Error::Manifest(ManifestError::Io { .. }))));
        assert!(diagnose(None, Device::Cpu).unwrap().files.is_empty());
    }
}
