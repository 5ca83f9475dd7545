//! The compiled kernels, which are part of the program: `compile.py` makes the files in `modules/`.

use std::fmt;

/// One file of kernels, compiled for one generation of GPUs.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// The file: `kernels/NAME.cu`.
    kernels: &'static str,
    code: Code,
    /// The lowest compute capability, major and minor, that it runs on.
    capability: (i32, i32),
    /// What the driver is given. PTX ends in a zero byte.
    pub bytes: &'static [u8],
}

/// What an image consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Code {
    /// Text that the driver compiles.
    Ptx,
    /// Machine code.
    Cubin,
}

/// The newest image of `kernels/NAME.cu` that a GPU of this compute capability runs, machine code before PTX.
pub(crate) fn image(name: &str, capability: (i32, i32)) -> Option<Image> {
    let images = IMAGES.iter().flatten();
    images.filter(|image| image.kernels == name && image.runs_on(capability)).max_by_key(|image| (image.code, image.capability)).copied()
}

impl Image {
    /// Machine code runs on its own major version only, from its minor version on. PTX runs on whatever is newer.
    fn runs_on(&self, (major, minor): (i32, i32)) -> bool {
        match self.code {
            Code::Cubin => self.capability.0 == major && self.capability.1 <= minor,
            Code::Ptx => self.capability <= (major, minor),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?} for {:?}, {} bytes", self.kernels, self.code, self.capability, self.bytes.len())
    }
}

/// Puts an image at an address where the driver may read the words of its head.
#[repr(C, align(16))]
struct Aligned<Bytes>(Bytes);

macro_rules! cubin {
    ($kernels:literal, $capability:expr, $target:literal) => {
        Image {
            kernels: $kernels,
            code: Code::Cubin,
            capability: $capability,
            bytes: &Aligned(*include_bytes!(concat!("../modules/", $kernels, ".", $target, ".cubin"))).0,
        }
    };
}

macro_rules! ptx {
    ($kernels:literal, $capability:expr, $target:literal) => {
        Image {
            kernels: $kernels,
            code: Code::Ptx,
            capability: $capability,
            bytes: concat!(include_str!(concat!("../modules/", $kernels, ".", $target, ".ptx")), "\0").as_bytes(),
        }
    };
}

/// Every file for every target of `compile.py`.
macro_rules! images {
    ($($kernels:literal),*) => {
        [$([
            cubin!($kernels, (7, 5), "sm_75"),
            cubin!($kernels, (8, 0), "sm_80"),
            cubin!($kernels, (9, 0), "sm_90"),
            cubin!($kernels, (10, 0), "sm_100"),
            cubin!($kernels, (12, 0), "sm_120"),
            ptx!($kernels, (7, 5), "compute_75"),
        ]),*]
    };
}

static IMAGES: &[[Image; 6]] = &images!["blake3", "sha256_tree", "blake2b_tree", "sha3_256_tree", "samples", "lattice"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn names() -> impl Iterator<Item = &'static str> {
        IMAGES.iter().map(|images| images[0].kernels)
    }

    #[test]
    fn a_gpu_gets_the_newest_code_that_it_runs() {
        let cubin = |major, minor| Some((Code::Cubin, (major, minor)));
        let ptx = Some((Code::Ptx, (7, 5)));
        let cases = [
            ((5, 2), None),
            ((7, 0), None),
            ((7, 2), None),
            ((7, 5), cubin(7, 5)),
            ((8, 0), cubin(8, 0)),
            ((8, 6), cubin(8, 0)),
            ((8, 9), cubin(8, 0)),
            ((9, 0), cubin(9, 0)),
            ((10, 0), cubin(10, 0)),
            ((10, 3), cubin(10, 0)),
            ((11, 0), ptx),
            ((12, 0), cubin(12, 0)),
            ((12, 1), cubin(12, 0)),
            ((13, 0), ptx),
        ];
        for name in names() {
            for (capability, expected) in cases {
                let image = image(name, capability);
                assert!(image.is_none_or(|image| image.kernels == name));
                assert_eq!(image.map(|image| (image.code, image.capability)), expected, "{name} on {capability:?}");
            }
        }
        assert!(image("blake4", (9, 0)).is_none());
    }

    #[test]
    fn every_file_is_in_the_table_and_every_kernel_has_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let listed = |folder: &Path| -> BTreeSet<String> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let sources: BTreeSet<_> =
            listed(&folder.join("kernels")).iter().filter_map(|file| file.strip_suffix(".cu").map(str::to_owned)).collect();
        assert_eq!(sources, names().map(str::to_owned).collect());
        let files: BTreeSet<_> = IMAGES
            .iter()
            .flatten()
            .map(|Image { kernels, code, capability: (major, minor), .. }| match code {
                Code::Cubin => format!("{kernels}.sm_{major}{minor}.cubin"),
                Code::Ptx => format!("{kernels}.compute_{major}{minor}.ptx"),
            })
            .collect();
        assert_eq!(listed(&folder.join("modules")), files);
    }

    #[test]
    fn images_are_what_the_table_says() {
        for image in IMAGES.iter().flatten() {
            let Image { code, capability: (major, minor), bytes, .. } = *image;
            let number = (major * 10 + minor).to_string();
            match code {
                Code::Ptx => {
                    let text = std::str::from_utf8(bytes).unwrap();
                    assert_eq!(text.find('\0'), Some(text.len() - 1), "{image:?}");
                    assert!(text.contains(&format!("\n.target sm_{number}\n")), "{image:?}");
                }
                Code::Cubin => {
                    // ELF for NVIDIA's machines (190). The flags have the architecture in their first or, in later files, second byte.
                    assert!(bytes.starts_with(b"\x7fELF\x02\x01"), "{image:?}");
                    assert_eq!(bytes[18..20], [190, 0], "{image:?}");
                    let architecture = if bytes[8] < 8 { bytes[48] } else { bytes[49] };
                    assert_eq!(architecture.to_string(), number, "{image:?}");
                    assert_eq!(bytes.as_ptr() as usize % 16, 0, "{image:?}");
                }
            }
        }
    }
}
