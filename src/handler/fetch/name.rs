//! How an artifact's file is named.
//!
//! `out/3f/doi_10.1234_abc-<32 hex digits>.pdf`: the digits are the first 128 bits of the BLAKE3 hash
//! of the artifact id, the directory is the first two of them. So two ids never share a name (not even
//! where `A` and `a` are one letter), no name a server sent is ever used, and a million artifacts make
//! some 4,000 entries in each of 256 directories. What stands before the hash is for people: the id,
//! every character outside `[A-Za-z0-9._-]` as `_`, cut at [`PREFIX_MAX_BYTES`].

use std::path::{Path, PathBuf};

use crate::job::ArtifactId;

/// How much of the id is kept readable.
const PREFIX_MAX_BYTES: usize = 72;
/// Hexadecimal digits of the hash: 128 bits.
const HASH_DIGITS: usize = 32;
/// How many directories files are spread over.
pub(super) const DIRECTORIES: usize = 256;

/// Where one artifact's file belongs, below the output directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    /// Which of the [`DIRECTORIES`].
    pub(super) directory: u8,
    /// The file's name in it, without an extension; at most 105 bytes.
    pub(super) stem: String,
}

impl FileName {
    /// The name that belongs to `id`, always the same.
    pub(super) fn of(id: &ArtifactId) -> FileName {
        let hash = blake3::hash(id.as_str().as_bytes());
        let digits = hash.to_hex();
        let stem = format!("{}-{}", readable(id.as_str()), &digits[..HASH_DIGITS]);
        FileName { directory: hash.as_bytes()[0], stem }
    }

    /// The directory it lies in.
    pub(super) fn directory_in(&self, out: &Path) -> PathBuf {
        out.join(directory_name(self.directory))
    }

    /// The whole path, for a file of this extension.
    pub(super) fn path_in(&self, out: &Path, extension: &str) -> PathBuf {
        self.directory_in(out).join(format!("{}.{extension}", self.stem))
    }
}

/// The name of a directory: two hexadecimal digits.
pub(super) fn directory_name(directory: u8) -> String {
    format!("{directory:02x}")
}

/// The id in characters that every file system takes.
fn readable(id: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut text: String = id.chars().map(keep).take(PREFIX_MAX_BYTES).collect();
    if text.starts_with(['.', '-']) || is_device(&text) {
        // Neither hidden, nor an option of some command, nor a device of Windows.
        text.replace_range(..1, "_");
    }
    text
}

/// Whether Windows takes the text up to its first dot for a device, whatever follows.
fn is_device(text: &str) -> bool {
    let base = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = base.len() == 4 && base.ends_with(|c: char| c.is_ascii_digit());
    matches!(base.as_str(), "con" | "prn" | "aux" | "nul")
        || (numbered && (base.starts_with("com") || base.starts_with("lpt")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, proptest};

    use super::*;

    fn path(id: &str) -> String {
        let name = FileName::of(&ArtifactId::new(id).unwrap());
        name.path_in(Path::new("out"), "pdf").to_string_lossy().into_owned()
    }

    #[test]
    fn the_name_of_an_id_never_changes() {
        // People's corpora depend on it.
        assert_eq!(
            path("doi:10.1234/abc"),
            format!(
                "out/{}/doi_10.1234_abc-{}.pdf",
                &blake3::hash(b"doi:10.1234/abc").to_hex()[..2],
                &blake3::hash(b"doi:10.1234/abc").to_hex()[..32]
            )
        );
    }

    #[test]
    fn ids_that_look_alike_have_names_apart() {
        let ids =
            ["a/b", "a_b", "a:b", "A_B", "a_b.", "a\u{e9}b", "con", "CON.x", ".x", "-rf", ".."];
        let names: HashSet<String> = ids.iter().map(|id| path(id).to_lowercase()).collect();
        assert_eq!(names.len(), ids.len());
        for id in ids {
            let path = path(id);
            let file = path.rsplit('/').next().unwrap();
            assert!(!file.starts_with(['.', '-']), "{file}");
            assert!(!is_device(file), "{file}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_short_and_plain_whatever_the_id(id in "\\PC{1,400}", other in "\\PC{1,40}") {
            let (Ok(id), Ok(other)) = (ArtifactId::new(&id), ArtifactId::new(&other)) else {
                return Ok(());
            };
            let name = FileName::of(&id);
            let file = format!("{}.pdf", name.stem);
            prop_assert!(file.len() <= 120);
            prop_assert!(file.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
            prop_assert!(!file.starts_with(['.', '-']));
            if id == other {
                prop_assert_eq!(&name, &FileName::of(&other));
            } else {
                let other = FileName::of(&other);
                prop_assert_ne!(name.stem.to_lowercase(), other.stem.to_lowercase());
            }
        }
    }
}
